//! Paths of the machine itself, as migrations declare them.

/// What is made by the kernel, and cannot be saved.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A path as it is declared, from the project's folder or from `/`, in its shortest form.
///
/// # Errors
/// In words, why nothing there can be saved and put back.
pub fn normal(declared: &str) -> Result<String, String> {
    if declared.chars().any(char::is_control) {
        return Err("it has a character that is none of a path".to_owned());
    }
    if declared.starts_with('~') {
        return Err("`~` stands for nothing here: say it from `/`, or from the project's folder".to_owned());
    }
    let names = || declared.split('/').filter(|name| !name.is_empty() && *name != ".");
    if names().any(|name| name == "..") {
        return Err("it has a `..`".to_owned());
    }
    let within = names().collect::<Vec<_>>().join("/");
    match (declared.starts_with('/'), within.is_empty()) {
        (true, true) => Err("it is all of the machine".to_owned()),
        (false, true) => Err("it is all of the project's folder".to_owned()),
        (false, false) => Ok(within),
        (true, false) => {
            let path = format!("/{within}");
            match OF_THE_KERNEL.into_iter().find(|top| covers(top, &path)) {
                Some(top) => Err(format!("what is in {top} is made by the kernel, and cannot be put back")),
                None => Ok(path),
            }
        }
    }
}

/// Whether a path is another one, or above it.
#[must_use]
pub fn covers(path: &str, other: &str) -> bool {
    other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Of several paths those that lie in no other of them, in order, each once.
#[must_use]
pub fn outermost<'a>(paths: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut paths: Vec<&String> = paths.into_iter().collect();
    paths.sort();
    paths.dedup();
    let is_within = |path: &&String| paths.iter().any(|other| other != path && covers(other, path));
    paths.iter().filter(|path| !is_within(path)).map(|path| (*path).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_that_can_be_saved() {
        for (declared, is) in [
            ("conf", "conf"),
            ("./conf//a/", "conf/a"),
            ("/srv/shop", "/srv/shop"),
            ("//srv/./shop", "/srv/shop"),
            ("/devices", "/devices"),
            ("a..b", "a..b"),
        ] {
            assert_eq!(normal(declared).as_deref(), Ok(is));
        }
        for (declared, why) in [
            ("", "project's folder"),
            ("./.", "project's folder"),
            ("/", "all of the machine"),
            ("//.", "all of the machine"),
            ("conf/../..", "`..`"),
            ("/srv/..", "`..`"),
            ("~/x", "`~`"),
            ("~", "`~`"),
            ("/proc/sys/vm", "/proc"),
            ("/dev", "/dev"),
            ("a\nb", "character"),
        ] {
            assert!(normal(declared).unwrap_err().contains(why), "{declared}");
        }
    }

    #[test]
    fn what_lies_in_another_goes_with_it() {
        let paths = ["/a/b", "/a", "/ab", "/c/d", "/a", "/c/d/e"].map(str::to_owned);
        assert_eq!(outermost(&paths), ["/a", "/ab", "/c/d"]);
        assert_eq!(outermost([]), [] as [&str; 0]);
    }
}
