//! Whatever bytes pretend to be an archive of a root file system: nothing is written outside of the layer's folder,
//! and nothing panics.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use setpoint_runtime::image::{Credentials, ImageStore, Source};

/// Every path below a folder but those in `state`, with what it is.
fn outside(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
        if entry.file_name() != "state" {
            found.insert(entry.path(), entry.metadata().unwrap().len());
        }
    }
    found
}

fuzz_target!(|bytes: &[u8]| {
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("root.tar");
    std::fs::write(&archive, bytes).unwrap();
    std::fs::write(place.path().join("canary"), "untouched").unwrap();
    let before = outside(place.path());
    let store = ImageStore::new(&place.path().join("state"));
    let source = Source::RootfsTar(archive);
    let _ = store.ensure(&source, false, &Credentials::none(), &|_, _| {}, &|| false);
    assert_eq!(outside(place.path()), before);
});
