use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cas::{look, read_once};

fn digest(path: &Path) -> Result<FileDigest, CasError> {
    let path = path.to_owned();
    look(&mut StatCache::in_memory(), Duration::from_secs(10), move |files| files.file_digest(&path))
}

/// What a name in a folder can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Vec<u8>, bool),
    Link(String),
    Dir(Tree),
}

type Tree = BTreeMap<String, Node>;

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (proptest::collection::vec(0_u8..3, 0..3), any::<bool>()).prop_map(|(bytes, x)| Node::File(bytes, x)),
        "[ab]{1,2}".prop_map(Node::Link),
    ];
    let node = leaf.prop_recursive(2, 8, 3, |inner| {
        proptest::collection::btree_map("[abc.]?[ab]", inner, 0..3).prop_map(Node::Dir)
    });
    proptest::collection::btree_map("[abc.]?[ab]", node, 0..4)
}

fn make<'a>(folder: &Path, nodes: impl Iterator<Item = (&'a String, &'a Node)>, backwards: bool) {
    for (name, node) in nodes {
        let path = folder.join(name);
        match node {
            Node::File(bytes, executable) => {
                std::fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Dir(tree) => {
                std::fs::create_dir(&path).unwrap();
                make_all(&path, tree, backwards);
            }
        }
    }
}

fn make_all(folder: &Path, tree: &Tree, backwards: bool) {
    if backwards { make(folder, tree.iter().rev(), true) } else { make(folder, tree.iter(), false) }
}

fn digest_of(tree: &Tree, backwards: bool) -> Digest {
    let folder = tempfile::tempdir().unwrap();
    make_all(folder.path(), tree, backwards);
    digest(folder.path()).unwrap().digest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn digests_are_equal_exactly_when_trees_are(a in tree(), b in tree()) {
        prop_assert_eq!(a == b, digest_of(&a, false) == digest_of(&b, false));
        prop_assert_eq!(digest_of(&a, false), digest_of(&a, true), "the order of creation shows");
    }
}

#[test]
fn a_file_a_link_and_a_folder_of_the_same_text_differ() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("file"), "x").unwrap();
    symlink("x", at("link")).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    let digests = ["file", "link", "dir"].map(|name| digest(&at(name)).unwrap());
    assert_eq!(digests.map(|digest| digest.kind), [FileKind::File, FileKind::Symlink, FileKind::Dir]);
    assert!(digests[0].digest != digests[1].digest && digests[1].digest != digests[2].digest);
}

#[test]
fn git_does_not_count_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "x").unwrap();
    let before = digest(folder.path()).unwrap();
    std::fs::create_dir(folder.path().join(".git")).unwrap();
    assert_eq!(digest(folder.path()).unwrap(), before);
}

#[test]
fn a_script_is_read_once_and_its_digest_is_that_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("a.sh"), folder.path().join("b.sh"));
    std::fs::write(&path, "echo").unwrap();
    symlink("a.sh", &link).unwrap();
    for name in [&path, &link] {
        let script = read_once(name).unwrap();
        assert_eq!(script.bytes, b"echo");
        assert_eq!(script.file, digest(&path).unwrap());
        let name = name.clone();
        let known = look(&mut StatCache::in_memory(), Duration::from_secs(10), move |files| {
            files.script_digest(&name)
        });
        assert_eq!(known.unwrap(), script.file);
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(digest(&missing), Err(CasError::Missing { path }) if path == missing));
    assert!(matches!(read_once(&missing), Err(CasError::Missing { .. })));
    assert!(matches!(read_once(folder.path()), Err(CasError::NotRegular { what: "a folder", .. })));
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(matches!(digest(&socket), Err(CasError::NotRegular { what: "a socket", .. })));
    assert!(digest(folder.path()).is_ok(), "a socket does not count in a folder");
}

#[test]
fn a_file_that_never_stands_still_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "x").unwrap();
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let writer = {
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        std::thread::spawn(move || {
            while wait.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                std::io::Write::write_all(&mut file, &[0; 65536]).unwrap();
                if file.metadata().unwrap().len() > 1 << 26 {
                    file.set_len(0).unwrap();
                }
            }
        })
    };
    // It may stand still for a moment by chance; then its bytes and digest belong together.
    for _ in 0..3 {
        match read_once(&path) {
            Ok(script) => assert_eq!(
                script.file,
                FileDigest::new(FileKind::File, false, Digest::of_bytes(&script.bytes))
            ),
            Err(error) => assert!(matches!(error, CasError::Changing { .. }), "{error}"),
        }
    }
    stop.send(()).unwrap();
    writer.join().unwrap();
}
