use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

struct Place {
    folder: tempfile::TempDir,
    store: SourceStore,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("setpoint-source-").tempdir_in("/var/tmp").unwrap();
        fs::create_dir(folder.path().join("project")).unwrap();
        let store = SourceStore::new(&Self::roots(folder.path(), "state"));
        Self { folder, store }
    }

    fn roots(folder: &Path, name: &str) -> Roots {
        Roots { state: folder.join(name), config: folder.join("config") }
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(self.project())
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn take(&self) -> Source {
        take(&self.store, &self.project(), false).unwrap()
    }

    /// The same by somebody who knows nothing.
    fn anew(&self) -> Source {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let store = SourceStore::new(&Self::roots(folder.path(), "state"));
        let source = take(&store, &self.project(), false).unwrap();
        // The trees are looked at below, and go with the place.
        std::mem::forget(folder);
        source
    }
}

fn take(store: &SourceStore, root: &Path, git: bool) -> Result<Source, SourceError> {
    store.take(root, TakeOptions { git, patience: Duration::from_secs(10) }, &|| false)
}

/// What a mount of a tree would show, each as `path kind content`.
fn shown(tree: &Tree) -> Vec<String> {
    let mut told = Vec::new();
    let into = tempfile::tempdir_in("/var/tmp").unwrap();
    let flat = into.path().join("flat");
    if tree.layers.is_empty() {
        return told;
    }
    crate::flatten::flatten(&tree.layers, &flat).unwrap();
    tell(&flat, Path::new(""), &mut told);
    told
}

fn tell(folder: &Path, path: &Path, told: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = path.join(entry.file_name());
        let metadata = entry.metadata().unwrap();
        if crate::workspace::is_whiteout(&metadata) {
            continue;
        }
        if metadata.is_dir() {
            told.push(format!("{path:?}/"));
            tell(&entry.path(), &path, told);
        } else if metadata.is_symlink() {
            told.push(format!("{path:?} -> {:?}", fs::read_link(entry.path()).unwrap()));
        } else {
            let mode = if metadata.mode() & 0o111 == 0 { "" } else { " x" };
            told.push(format!(
                "{path:?} = {:?}{mode}",
                String::from_utf8_lossy(&fs::read(entry.path()).unwrap())
            ));
        }
    }
}

/// The paths of a tree.
fn paths(tree: &Tree) -> Vec<String> {
    let paths = shown(tree)
        .into_iter()
        .map(|line| line.split(" = ").next().unwrap().split(" -> ").next().unwrap().replace('"', ""));
    paths.collect()
}

#[test]
fn everything_is_kept_as_it_is_with_modes_that_everybody_has() {
    let place = Place::new();
    place.write("a", "1");
    place.write("deep/er/b", "2");
    fs::create_dir(place.project().join("empty")).unwrap();
    symlink("/no/where", place.project().join("link")).unwrap();
    fs::write(place.project().join(OsStr::from_bytes(b"not-utf8-\xff")), "3").unwrap();
    fs::set_permissions(place.project().join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(place.project().join("deep/er/b"), fs::Permissions::from_mode(0o710)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(place.project().join("socket")).unwrap();
    let source = place.take();
    drop(socket);
    assert_eq!(
        shown(source.all()),
        [
            "\"a\" = \"1\"",
            "\"deep\"/",
            "\"deep/er\"/",
            "\"deep/er/b\" = \"2\" x",
            "\"empty\"/",
            "\"link\" -> \"/no/where\"",
            "\"not-utf8-\\xFF\" = \"3\"",
        ]
    );
    let mode = |path: &str| fs::metadata(source.all().layers[0].join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("deep"), mode("deep/er/b")), (0o644, 0o755, 0o755));
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(&source.all().layers[0].join("a")), time(&place.project().join("a")));
    assert_eq!(
        fs::metadata(place.project().join("a")).unwrap().nlink(),
        1,
        "the user's own files are never linked"
    );
}

#[test]
fn what_has_not_changed_copies_nothing_and_what_has_costs_what_has_changed() {
    let place = Place::new();
    (0..300).for_each(|number| place.write(&format!("f{number}"), "x"));
    let first = place.take();
    let again = place.take();
    assert_eq!((first.digest(), &first.all().layers), (again.digest(), &again.all().layers));
    place.write("f7", "other");
    fs::remove_file(place.project().join("f8")).unwrap();
    let third = place.take();
    assert_ne!(third.digest(), first.digest());
    assert_eq!(third.all().layers.len(), 2);
    assert_eq!(fs::read_dir(&third.all().layers[1]).unwrap().count(), 2, "what is other, and what is gone");
    assert_eq!(third.digest(), place.anew().digest());
    place.write("f7", "x");
    place.write("f8", "x");
    assert_eq!(place.take().all().layers, first.all().layers, "what was known is known still");
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen() {
    let place = Place::new();
    place.write("a", "1");
    let first = place.take();
    let time = fs::metadata(place.project().join("a")).unwrap().modified().unwrap();
    place.write("a", "2");
    fs::File::options().append(true).open(place.project().join("a")).unwrap().set_modified(time).unwrap();
    assert_ne!(place.take().digest(), first.digest());
}

#[test]
fn what_git_ignores_is_no_part_of_it_but_what_it_tracks_is() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write(".gitignore", "*.log\n/out/\n");
    for path in ["a", "a.log", "kept.log", "out/x", "sub/out/y", "sub/b.log", "sub/c.log"] {
        place.write(path, "");
    }
    place.write("sub/.gitignore", "!b.log\n");
    let before = paths(place.take().all());
    assert_eq!(before, [".gitignore", "a", "sub/", "sub/.gitignore", "sub/b.log", "sub/out/", "sub/out/y"]);
    place.git(&["add", "-f", "kept.log"]);
    assert!(paths(place.take().all()).contains(&"kept.log".to_owned()), "tracked although ignored");
    place.git(&["rm", "-q", "--cached", "kept.log"]);
    assert!(!paths(place.take().all()).contains(&"kept.log".to_owned()));
    fs::write(place.project().join(".git/info/exclude"), "a\n").unwrap();
    assert!(!paths(place.take().all()).contains(&"a".to_owned()), "excluded by this clone alone");
}

#[test]
fn our_own_ignores_count_everywhere_and_outside_of_git_alone() {
    let place = Place::new();
    place.write(".gitignore", "ignored\n");
    place.write(".setpointignore", "*.tmp\n!keep.tmp\n");
    for path in ["ignored", "a.tmp", "keep.tmp", "sub/b.tmp"] {
        place.write(path, "");
    }
    assert_eq!(
        paths(place.take().all()),
        [".gitignore", ".setpointignore", "ignored", "keep.tmp", "sub/"],
        "there is no repository, so git's rules are none"
    );
    place.git(&["init", "-q"]);
    assert!(!paths(place.take().all()).contains(&"ignored".to_owned()));
    place.write("sub/.setpointignore", "!b.tmp\n");
    assert!(paths(place.take().all()).contains(&"sub/b.tmp".to_owned()), "the nearest rule wins");
}

#[test]
fn worktrees_and_submodules_are_what_they_are() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write(".gitignore", "*.log\n");
    place.write("a", "");
    place.git(&["add", "."]);
    place.git(&["commit", "-q", "-m", "x"]);
    let linked = place.folder.path().join("linked");
    place.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    fs::write(linked.join("x.log"), "").unwrap();
    let source = take(&place.store, &linked, false).unwrap();
    assert_eq!(paths(source.all()), [".gitignore", "a"]);
    let error = take(&place.store, &linked, true).unwrap_err();
    assert!(error.hint().unwrap().contains("linked worktree"), "{error}");
    // The linked worktree has the same content, and so the same tree, of which there is one.
    assert_eq!(source.digest(), place.take().digest());
    place.git(&["submodule", "add", "-q", linked.to_str().unwrap(), "module"]);
    place.write("module/b.log", "");
    place.write("module/c", "");
    let found = paths(place.take().all());
    assert!(
        found.contains(&"module/c".to_owned()) && !found.contains(&"module/b.log".to_owned()),
        "{found:?}"
    );
    assert!(!found.iter().any(|path| path.ends_with(".git")), "{found:?}");
}

#[test]
fn the_history_is_part_of_it_when_it_is_asked_for_and_looking_does_not_change_it() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write("a", "1");
    place.git(&["add", "."]);
    place.git(&["commit", "-q", "-m", "x"]);
    let with = || take(&place.store, &place.project(), true).unwrap();
    let first = with();
    assert!(paths(first.all()).contains(&".git/HEAD".to_owned()));
    place.git(&["status"]);
    assert_eq!(with().digest(), first.digest());
    place.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    assert_ne!(with().digest(), first.digest());
}

#[test]
fn what_describes_the_project_is_seen_by_those_who_name_it() {
    let place = Place::new();
    for path in ["setpoint.toml", ".setpoint/ci.py", "a"] {
        place.write(path, "1");
    }
    let first = place.take();
    assert_eq!(paths(first.all()), ["a"]);
    let named = [Input::Required("setpoint.toml".to_owned()), Input::Required(".setpoint/**".to_owned())];
    assert_eq!(paths(&first.view(&named).unwrap()), [".setpoint/", ".setpoint/ci.py", "setpoint.toml"]);
    place.write("setpoint.toml", "2");
    let second = place.take();
    assert_eq!(second.digest(), first.digest());
    assert_ne!(second.inputs(&named).unwrap().digest, first.inputs(&named).unwrap().digest);
}

#[test]
fn a_view_is_what_its_patterns_fit() {
    let place = Place::new();
    for path in ["src/a.rs", "src/deep/b.rs", "src/c.txt", "docs/d", "Cargo.toml"] {
        place.write(path, path);
    }
    let source = place.take();
    let view = |patterns: &[&str]| {
        let inputs: Vec<Input> = patterns.iter().map(|glob| Input::Required((*glob).to_owned())).collect();
        let came_to = source.inputs(&inputs).unwrap();
        let tree = source.view(&inputs).unwrap();
        assert_eq!(tree.digest, came_to.digest);
        (paths(&tree), came_to.unmatched)
    };
    let expected = ["src/", "src/a.rs", "src/deep/", "src/deep/b.rs"].map(str::to_owned).to_vec();
    assert_eq!(view(&["src/**/*.rs"]), (expected, Vec::new()));
    assert_eq!(view(&["Cargo.*", "no/**"]), (vec!["Cargo.toml".to_owned()], vec!["no/**".to_owned()]));
    assert_eq!(view(&[]), (Vec::new(), Vec::new()));
    assert_eq!(view(&["docs"]).0, ["docs/", "docs/d"]);
}

#[test]
fn trees_that_nobody_uses_go_and_those_in_use_stay_with_all_that_they_lie_on() {
    let place = Place::new();
    (0..100).for_each(|number| place.write(&format!("f{number}"), "x"));
    drop(place.take());
    place.write("f1", "y");
    let used = place.take();
    assert_eq!(used.all().layers.len(), 2);
    assert_eq!(place.store.collect(0, Duration::from_secs(60)).unwrap(), 1, "the first one went");
    assert_eq!(paths(used.all()).len(), 100, "and what the second lies on did not");
    drop(used);
    place.store.collect(0, Duration::from_secs(60)).unwrap();
    assert_eq!(place.store.usage(), []);
    assert_eq!(paths(place.take().all()).len(), 100, "it is taken again");
}

#[test]
fn what_is_damaged_is_made_again() {
    let place = Place::new();
    place.write("a", "1");
    let layers = place.take().all().layers.clone();
    fs::remove_dir_all(&layers[0]).unwrap();
    assert_eq!(paths(place.take().all()), ["a"]);
    let state = place.folder.path().join("state/source/v1/projects");
    let project = fs::read_dir(state).unwrap().next().unwrap().unwrap().path();
    for damage in [b"".as_slice(), b"nonsense", b"setpoint src  v1 and nothing that it should be"] {
        fs::write(project.join("index"), damage).unwrap();
        assert_eq!(paths(place.take().all()), ["a"]);
    }
}

#[test]
fn what_cannot_be_taken_is_named() {
    let place = Place::new();
    let error = take(&place.store, &place.folder.path().join("nowhere"), false).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let stopped = place.store.take(
        &place.project(),
        TakeOptions { git: false, patience: Duration::from_secs(10) },
        &|| true,
    );
    assert!(matches!(stopped, Err(SourceError::Cancelled)));
}

/// Numbers that are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn after_any_edits_the_layers_show_what_is_there_and_the_digest_is_that_of_a_first_look() {
    for seed in 0..6 {
        let place = Place::new();
        let mut random = Random(seed);
        (0..30)
            .for_each(|number| place.write(&format!("d{}/e{}/f{number}", number % 3, number % 2), "begin"));
        for round in 0..25 {
            for _ in 0..=random.below(4) {
                edit(&mut random, &place.project(), round);
            }
            let source = place.take();
            let anew = place.anew();
            assert_eq!(source.digest(), anew.digest(), "seed {seed}, round {round}");
            assert_eq!(shown(source.all()), shown(anew.all()), "seed {seed}, round {round}");
            let mut there = Vec::new();
            tell(&place.project(), Path::new(""), &mut there);
            assert_eq!(shown(source.all()), there, "seed {seed}, round {round}");
        }
    }
}

/// Some edit, of whatever kind: what is in its way goes.
fn edit(random: &mut Random, root: &Path, round: u64) {
    let first = root.join(format!("d{}", random.below(4)));
    let second = first.join(format!("e{}", random.below(3)));
    let third = second.join(format!("f{}", random.below(12)));
    let path = match random.below(6) {
        0 => first,
        1 => second,
        _ => third,
    };
    let clear = |path: &Path| {
        let _ = fs::remove_dir_all(path);
        let _ = fs::remove_file(path);
    };
    for above in path.ancestors().skip(1).take_while(|above| *above != root) {
        if !above.is_dir() {
            clear(above);
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match random.below(7) {
        0 => clear(&path),
        1 => {
            clear(&path);
            fs::create_dir(&path).unwrap();
        }
        2 => {
            clear(&path);
            symlink(format!("to{round}"), &path).unwrap();
        }
        3 if path.is_file() && !path.is_symlink() => {
            let mode = if random.below(2) == 0 { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        _ => {
            clear(&path);
            fs::write(&path, format!("round {round} {}", random.below(3))).unwrap();
        }
    }
}

#[test]
fn many_edits_never_copy_what_they_did_not_change() {
    let place = Place::new();
    (0..200).for_each(|number| place.write(&format!("d/f{number}"), "x"));
    let base = place.take().all().layers[0].clone();
    let kept = fs::metadata(base.join("d/f150")).unwrap().ino();
    for round in 0..40 {
        place.write(&format!("d/f{}", round % 20), &format!("round {round}"));
        let source = place.take();
        assert!(source.all().layers.len() <= 9);
        let found = source.all().layers.iter().rev().map(|layer| layer.join("d/f150")).find(|at| at.exists());
        assert_eq!(fs::metadata(found.unwrap()).unwrap().ino(), kept, "round {round}");
    }
    // A change of most files is a tree of its own, in which the rest is linked.
    (0..140).for_each(|number| place.write(&format!("d/f{number}"), "y"));
    let source = place.take();
    assert_eq!(source.all().layers.len(), 1);
    assert_eq!(fs::metadata(source.all().layers[0].join("d/f150")).unwrap().ino(), kept);
    assert_eq!(source.digest(), place.anew().digest());
    assert_eq!(shown(source.all()), shown(place.anew().all()));
}

#[test]
fn what_git_tracks_but_ignores_stays_out_where_setpointignore_says_so() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write(".gitignore", "*.bin\n");
    place.write("kept.bin", "1");
    place.write("deep/left.bin", "2");
    place.git(&["add", "-f", "."]);
    let has = |path: &str| place.take().entries.iter().any(|entry| entry.path == path.as_bytes());
    assert!(has("kept.bin") && has("deep/left.bin"));
    place.write("deep/.setpointignore", "left.*\n");
    assert!(has("kept.bin") && !has("deep/left.bin"));
}

#[test]
fn a_tracked_file_that_is_ignored_from_elsewhere_later_stays() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write("kept.bin", "1");
    place.git(&["add", "."]);
    let has = |path: &str| place.take().entries.iter().any(|entry| entry.path == path.as_bytes());
    assert!(has("kept.bin"));
    place.write(".git/info/exclude", "*.bin\n");
    assert!(has("kept.bin"), "git's own list of excludes");
}

#[test]
fn a_git_that_cannot_answer_is_told() {
    let place = Place::new();
    place.git(&["init", "-q"]);
    place.write("file", "1");
    place.git(&["add", "."]);
    fs::write(place.project().join(".git/index"), "no index").unwrap();
    let error = take(&place.store, &place.project(), false).unwrap_err();
    assert!(error.to_string().contains("git cannot say which files it tracks"), "{error}");
}

#[test]
fn a_tree_that_was_not_written_out_when_the_machine_stopped_is_taken_again() {
    let place = Place::new();
    place.write("file", "right");
    let tree = place.take();
    let record = place.store.trees.usage().pop().unwrap().digest;
    let path = place.folder.path().join("state/source/v1/trees").join(record.to_hex());
    let stopped = fs::read_to_string(&path).unwrap().replace(&crate::host::boot_id(), "an earlier one");
    fs::write(&path, stopped).unwrap();
    // What power loss leaves of a file that was not written out.
    fs::write(tree.whole.layers[0].join("file"), "").unwrap();
    drop(tree);
    let again = place.take();
    assert_eq!(fs::read_to_string(again.whole.layers.last().unwrap().join("file")).unwrap(), "right");
    place.store.sync().unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains(&crate::host::boot_id()), "it is durable now");
}

#[test]
fn a_digest_is_of_all_but_what_is_left_out_and_outside_of_git_of_nothing_that_tools_make() {
    let place = Place::new();
    let digest = || place.store.digest(&place.project(), &["specs"], Duration::from_secs(10)).unwrap();
    for path in ["src/a", "web/b", "tests/c"] {
        place.write(path, "1");
    }
    place.write("setpoint.toml", "setpoint = 1\n");
    let first = digest();
    assert_eq!(digest(), first);
    for path in ["specs/cart.toml", "target/debug/a", "web/node_modules/b/c", "tests/__pycache__/d"] {
        place.write(path, "made");
        assert_eq!(digest(), first, "{path}");
    }
    place.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    let second = digest();
    place.write("specs-of-others", "1");
    assert!(second != first && digest() != second);
    // A repository says itself what does not count.
    let before = digest();
    place.git(&["init", "-q"]);
    place.write(".gitignore", "node_modules/\n__pycache__/\n");
    assert_ne!(digest(), before);
    let ignored = digest();
    place.write("target/debug/a", "made anew");
    assert_ne!(digest(), ignored);
    assert!(place.store.usage().is_empty(), "nothing is copied");
}
