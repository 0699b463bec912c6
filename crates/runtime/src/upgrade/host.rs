//! Migrations on the host itself: where their paths lie, and carrying one out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use setpoint_model::manifest::SecretSource;
use setpoint_model::release::ledger::Planned;

use super::migrate::{CHECK, Errand};
use super::saved::Saved;
use super::{Cause, Change};
use crate::engine::{ExecSpec, Io};
use crate::host;
use crate::image::LOGINS;
use crate::logs;
use crate::paths::project_key;
use crate::secrets::{Mask, Values, write_private};
use crate::store::TxId;
use crate::supervise::{Failed, Supervisor};

/// What tells the processes of a migration from others: the name of the change that they belong to.
const VARIABLE: &str = "SETPOINT_CHANGE";
/// How long is waited for processes that were killed, before they are looked for again, and how often.
const TICK: Duration = Duration::from_millis(20);
const LOOKS: usize = 500;

/// Where a declared path lies, without links on the way to it.
///
/// # Errors
/// In words, why it cannot be saved and put back: what is `kept_out`, and what is mounted, is not to be moved.
pub(super) fn resolved(declared: &str, root: &Path, kept_out: &[PathBuf]) -> Result<String, String> {
    let path = root.join(declared);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err("it has no name".to_owned());
    };
    let found = without_links(parent).map_err(|error| error.to_string())?.join(name);
    if !declared.starts_with('/') && !found.starts_with(root) {
        let found = found.display();
        return Err(format!(
            "a link leads out of the project's folder, to {found}; say that path, if it is meant"
        ));
    }
    if root.starts_with(&found) {
        return Err("the project's folder lies in it".to_owned());
    }
    if let Some(own) = kept_out.iter().find(|own| own.starts_with(&found) || found.starts_with(own)) {
        return Err(format!("{} is what the upgrade itself works with", own.display()));
    }
    if let Some(mount) = mounted_in(&found).map_err(|error| error.to_string())? {
        return Err(format!("something is mounted at {}", mount.display()));
    }
    found.into_os_string().into_string().map_err(|_| "it is not UTF-8".to_owned())
}

/// Where something is mounted at or below a path.
pub(super) fn mounted_in(path: &Path) -> io::Result<Option<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts(&table).find(|mount| mount.starts_with(path)))
}

/// A folder without links on the way to it, also where it is not there.
pub(super) fn without_links(folder: &Path) -> io::Result<PathBuf> {
    for there in folder.ancestors() {
        match there.canonicalize() {
            Ok(real) if !real.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(real) => {
                let rest = folder.strip_prefix(there).unwrap_or(Path::new(""));
                return Ok(real.components().chain(rest.components()).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && there.symlink_metadata().is_err() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder.to_owned())
}

/// Where something is mounted, by the kernel's own table.
fn mounts(table: &str) -> impl Iterator<Item = PathBuf> {
    let plain = |field: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .into_iter()
            .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
    };
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(move |field| PathBuf::from(plain(field)))
}

impl Change<'_> {
    pub(super) fn saved(&self) -> Saved<'_> {
        Saved { roots: self.place.roots, root: &self.root }
    }

    /// The secrets that whoever upgrades has in his own environment, which what runs here has, too.
    fn secrets_of_caller(&self) -> Values {
        let Some(declared) = self.declared else { return Values::new() };
        let of_env = |source: &SecretSource| match source {
            SecretSource::Env { name } => declared.variables.get(name).cloned(),
            _ => None,
        };
        let secrets = declared.project.manifest.secrets.iter();
        secrets.filter_map(|(name, secret)| Some((name.clone(), of_env(&secret.source)?))).collect()
    }

    /// Logins of registries are for nobody but Setpoint itself: they are empty here.
    fn without_logins(&self) -> BTreeMap<String, String> {
        let all = self.declared.into_iter().flat_map(|declared| declared.variables.keys());
        all.filter(|name| name.starts_with(LOGINS)).map(|name| (name.clone(), String::new())).collect()
    }

    /// Runs something for a migration on the host.
    pub(super) fn run_here(&mut self, planned: &Planned, errand: &Errand<'_>) -> Result<(), Cause> {
        let phase = &errand.phase;
        let mask = Mask::new(&self.secrets_of_caller());
        let logs = logs::folder(self.place.roots, &project_key(&self.root, None).to_string());
        let supervisor =
            Supervisor { mask: &mask, watcher: self.place.watcher, cancel: self.place.cancel, logs: &logs };
        let (root, mut env) = (self.root.clone(), self.without_logins());
        env.insert(VARIABLE.to_owned(), self.txid.to_string());
        let run = |name: &str, argv: Vec<String>, limit| {
            let spec = ExecSpec { argv, env: env.clone(), cwd: None, user: None, io: Io::Captured };
            supervisor.alone(&format!("{phase}{name}"), host::spawn(&spec, &root), Some(limit))
        };
        let words = |failed: Failed| {
            let said = failed.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
            format!("{}{said} (all of it: {}/{phase}.log)", failed.failure, logs.display())
        };
        let check = |name: &str| errand.check.map(|argv| run(name, argv.to_vec(), CHECK));
        let script = self.saved().folder(self.upgrade.from.generation).join(errand.name());
        let unwritten = |error| format!("cannot write {}: {error}", script.display());
        let carry_out = || {
            write_private(&script, errand.text.as_bytes(), false).map_err(unwritten)?;
            self.begin(planned, errand)?;
            let argv = errand.run.iter().cloned().chain([script.display().to_string()]).collect();
            let done = run("", argv, errand.timeout).map_err(words);
            Ok(done.and(fs::remove_file(&script).map_err(unwritten))?)
        };
        errand.carried_out(check, carry_out, words)
    }
}

/// Ends what still runs of the migrations of a change whose command died: they die with it, but nobody has waited for that.
///
/// # Errors
/// In words, if one of them does not end: it may still write.
pub(super) fn end_survivors(txid: &TxId) -> Result<(), String> {
    let own = format!("{VARIABLE}={txid}");
    let is_own = |pid: &i32| {
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables.split(|byte| *byte == 0).any(|variable| variable == own.as_bytes())
    };
    let (mut looks, mut was_clear) = (0, false);
    loop {
        let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let left: Vec<i32> = pids.filter(is_own).collect();
        looks += 1;
        match left.first() {
            // Who becomes another program at this moment shows no variables until it is one.
            None if was_clear => return Ok(()),
            None => {}
            Some(pid) if looks > LOOKS => {
                return Err(format!("process {pid}, of a migration, was killed and does not end"));
            }
            Some(_) => {}
        }
        was_clear = left.is_empty();
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            // Who has ended by himself is not there any more.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_lies_where_nothing_of_ours_and_nothing_mounted_is() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        let (root, state) = (base.join("shop"), base.join("state"));
        fs::create_dir_all(root.join("conf")).unwrap();
        symlink(&base, root.join("out")).unwrap();
        symlink("conf", root.join("in")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let find = |declared: &str| resolved(declared, &root, std::slice::from_ref(&state));
        let at = |path: &str| Ok(root.join(path).display().to_string());
        assert_eq!(find("conf"), at("conf"));
        assert_eq!(find("in/a"), at("conf/a"));
        assert_eq!(find("not/there/yet"), at("not/there/yet"));
        // A link at its end is what is saved.
        assert_eq!(find("out"), at("out"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        for (declared, why) in [
            ("out/other".to_owned(), "leads out of the project's folder"),
            ("dangling/a".to_owned(), "No such file"),
            ("file/a".to_owned(), "not a directory"),
            (text(&base), "the project's folder lies in it"),
            (text(&root), "the project's folder lies in it"),
            (text(&state), "works with"),
            (text(&state.join("volumes")), "works with"),
            ("/proc".to_owned(), "mounted at /proc"),
        ] {
            let found = find(&declared);
            assert!(found.as_ref().is_err_and(|said| said.contains(why)), "{declared}: {found:?}");
        }
    }

    #[test]
    fn what_is_mounted_is_read_with_its_spaces() {
        let table = "23 28 0:22 / /proc rw - proc proc rw\n30 28 0:5 / /srv/a\\040b\\134c rw - tmpfs x rw\n";
        let found: Vec<PathBuf> = mounts(table).collect();
        assert_eq!(found, [Path::new("/proc"), Path::new("/srv/a b\\c")]);
    }

    #[test]
    fn what_is_left_of_a_change_is_ended_and_nothing_else() {
        let start = |txid: &str| {
            let mut command = std::process::Command::new("sleep");
            command.arg("1000").env(VARIABLE, txid).spawn().unwrap()
        };
        let (mut own, mut other) = (start("a-change-that-died"), start("another-change"));
        // Who waits for it, as its supervisor does.
        let waiting = std::thread::spawn(move || own.wait().unwrap());
        end_survivors(&TxId::new("a-change-that-died")).unwrap();
        assert!(!waiting.join().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
