use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use super::*;
use crate::cas::{FileDigest, look};

const PATIENCE: Duration = Duration::from_secs(10);
const S: i64 = 1_000_000_000;

fn roots(folder: &Path) -> Roots {
    Roots { state: folder.join("state"), config: folder.join("config") }
}

fn digest(cache: &mut StatCache, path: &Path) -> FileDigest {
    let path = path.to_owned();
    look(cache, PATIENCE, move |files| files.file_digest(&path)).unwrap()
}

/// Lets the file system's clock move on, so that what was written before is settled.
fn settle() {
    std::thread::sleep(TICK * 2);
}

fn entry(inode: u64) -> Entry {
    Entry { key: (1, inode), size: 3, mtime: -5, ctime: 7, digest: Digest::of_bytes(&inode.to_le_bytes()) }
}

#[test]
fn a_file_is_settled_once_the_clock_has_moved_on() {
    let stamp = |mtime, ctime| Stamp { key: (1, 1), size: 0, mtime, ctime, mode: 0 };
    let ms = 1_000_000;
    for (mtime, ctime, now, settled) in [
        (10 * S + 1, 10 * S + 1, 10 * S + 2, false),
        (10 * S + 1, 10 * S + 1, 10 * S + 19 * ms, false),
        (10 * S + 1, 10 * S + 1, 10 * S + 21 * ms, true),
        (S, 10 * S + 1, 10 * S + 2, false),
        (20 * S, 10 * S + 1, 11 * S, false), // an mtime in the future
        (10 * S, 10 * S, 11 * S, false),     // whole seconds: the clock may be coarse
        (10 * S, 10 * S, 12 * S + 1, true),
        (10 * S + 1, 10 * S + 1, 3 * S, false), // the clock jumped back
    ] {
        assert_eq!(stamp(mtime, ctime).is_settled(now), settled, "{mtime} {ctime} {now}");
    }
}

#[test]
fn an_edit_right_after_reading_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut cache) = (folder.path().join("f"), StatCache::in_memory());
    for round in 0..200 {
        std::fs::write(&path, format!("{:04}", round)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let expected = Digest::of_bytes(format!("{round:04}").as_bytes());
        assert_eq!(digest(&mut cache, &path), FileDigest::new(crate::cas::FileKind::File, false, expected));
    }
}

#[test]
fn an_edit_that_keeps_size_and_mtime_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut cache) = (folder.path().join("f"), StatCache::in_memory());
    std::fs::write(&path, "one").unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    settle();
    let before = digest(&mut cache, &path);
    assert_eq!(cache.len(), 1);
    std::fs::write(&path, "two").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
    assert_ne!(digest(&mut cache, &path), before);
}

#[test]
fn what_is_known_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, "one").unwrap();
    settle();
    let mut cache = StatCache::open(&roots(folder.path()), folder.path());
    let first = digest(&mut cache, &path);
    assert!(cache.save().unwrap());
    assert!(!cache.save().unwrap(), "nothing new was learned");

    // A lie in the cache shows that it is believed.
    let mut cache = StatCache::open(&roots(folder.path()), folder.path());
    cache.known[0].digest = Digest::of_bytes(b"a lie");
    assert_ne!(digest(&mut cache, &path), first);
    assert!(!cache.save().unwrap());
}

#[test]
fn a_change_of_mode_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut cache) = (folder.path().join("f"), StatCache::in_memory());
    std::fs::write(&path, "one").unwrap();
    settle();
    let before = digest(&mut cache, &path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let after = digest(&mut cache, &path);
    assert!(after.executable && !before.executable && after.digest != before.digest);
}

#[test]
fn the_table_reads_back_and_damage_is_an_empty_cache() {
    let entries: Vec<Entry> = (0..100).map(entry).collect();
    let bytes = encode(&entries);
    assert_eq!(decode(&bytes), Some(entries));
    for len in [0, 10, HEADER - 1, HEADER, bytes.len() - 1] {
        assert_eq!(decode(&bytes[..len]), None, "{len}");
    }
    for position in [0, 20, HEADER + 3, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        assert_eq!(decode(&damaged), None, "{position}");
    }
    assert_eq!(decode(&encode(&[])), Some(vec![]));
}

#[test]
fn what_nobody_asks_for_is_kept_only_while_it_is_the_smaller_part() {
    for (known, asked, left) in [(1_000, 1, 1_001), (5_000, 2_500, 5_001), (5_000, 10, 11)] {
        let mut cache = StatCache {
            known: (0..known).map(entry).collect(),
            used: vec![false; known as usize],
            ..StatCache::default()
        };
        cache.used[..asked].fill(true);
        cache.fresh.insert((2, 1), entry(known));
        assert_eq!(cache.merged().len(), left, "{known} {asked}");
    }
}

#[test]
fn a_cache_that_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "in the way").unwrap();
    let mut cache = StatCache::open(&roots(folder.path()), folder.path());
    cache.fresh.insert((1, 1), entry(1));
    let error = cache.save().unwrap_err();
    assert!(error.to_string().contains("state/stat/v1"), "{error}");
}
