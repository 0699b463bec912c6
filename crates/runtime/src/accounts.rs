//! Accounts of a unit, read from the files that it has itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engine::Account;

/// Finds an account by a name or a number, and maybe a group after a colon. `passwd` and `group` are the files of these
/// names.
///
/// A number needs no entry; a name does.
///
/// # Errors
/// In words, why there is none.
pub(crate) fn find(passwd: &str, group: &str, user: &str) -> Result<Account, String> {
    let (wanted, of_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let of_group = of_group.map(|name| group_id(group, name)).transpose()?;
    let entries = passwd.lines().filter_map(entry);
    let number = wanted.parse::<u32>().ok();
    let found = entries.into_iter().find(|account| account.name == wanted || number == Some(account.uid));
    let mut account = match (found, number) {
        (Some(account), _) => account,
        (None, Some(uid)) => Account {
            name: uid.to_string(),
            uid,
            gid: uid,
            home: PathBuf::from(if uid == 0 { "/root".to_owned() } else { format!("/home/{uid}") }),
            shell: "/bin/sh".to_owned(),
        },
        (None, None) => return Err("its /etc/passwd has no such name".to_owned()),
    };
    if let Some(gid) = of_group {
        account.gid = gid;
    }
    Ok(account)
}

/// The number of a group, by that or its name.
fn group_id(group: &str, name: &str) -> Result<u32, String> {
    let named = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    let known = name.parse().ok().or_else(|| group.lines().find_map(named));
    known.ok_or_else(|| format!("its /etc/group has no `{name}`"))
}

fn entry(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    Some(Account {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: PathBuf::from(if home.is_empty() { "/" } else { home }),
        shell: if shell.is_empty() { "/bin/sh" } else { shell }.to_owned(),
    })
}

/// The host's account of this name, if it owns this folder, as it is inside a unit that does not know the name.
pub(crate) fn owner_of(folder: &Path, user: &str) -> Option<Account> {
    let host = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let owner = fs::metadata(folder).ok()?.uid();
    let account = find(&host, "", user).ok().filter(|account| account.uid == owner)?;
    let home = if account.uid == 0 { "/root".into() } else { format!("/home/{user}").into() };
    Some(Account { home, shell: "/bin/sh".to_owned(), ..account })
}

/// Who owns a folder: by name, where the host has one for him.
pub(crate) fn owner_name(folder: &Path) -> String {
    let owner = fs::metadata(folder).map_or(0, |metadata| metadata.uid());
    if owner == 0 {
        return "root".to_owned();
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, "", &owner.to_string()).map_or_else(|_| owner.to_string(), |account| account.name)
}

/// The supplementary groups of an account.
pub(crate) fn groups(group: &str, name: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let gid = fields.next()?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == name).then_some(gid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndev:x:1000:1001:,,,:/home/dev:\nbroken\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:dev\nbroken\n";

    #[test]
    fn names_numbers_and_pairs_are_found() {
        let dev = find(PASSWD, GROUP, "dev").unwrap();
        assert_eq!((dev.uid, dev.gid, dev.shell.as_str()), (1000, 1001, "/bin/sh"));
        assert_eq!(find(PASSWD, GROUP, "1000").unwrap(), dev);
        assert_eq!(find(PASSWD, GROUP, "dev:7").unwrap().gid, 7);
        assert_eq!(find(PASSWD, GROUP, "4242").unwrap().home, PathBuf::from("/home/4242"));
        assert!(find(PASSWD, GROUP, "nobody-here").is_err());
        assert_eq!(find(PASSWD, GROUP, "dev:staff").unwrap().gid, 50);
        assert!(find(PASSWD, GROUP, "dev:nobody-here").is_err());
    }

    #[test]
    fn groups_are_those_that_name_the_account() {
        assert_eq!(groups("audio:x:29:dev,other\nvideo:x:44:other\nstaff:x:50:dev\n", "dev"), [29, 50]);
    }
}
