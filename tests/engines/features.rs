//! Features of devcontainer.json that are fetched, on Docker: from a registry, and from an address.

use std::fs;

use crate::docker::{Scenario, project};
use crate::harness::{NOTHING, Project};
use crate::place::Place;
use crate::registry::Server;
use crate::support::{Blobs, Tar, digest, gzip};
use crate::web::{Answer, Web};

pub const SCENARIOS: &[Scenario] = named![
    a_feature_of_a_registry_is_fetched_once_and_locked,
    a_feature_at_an_address_is_fetched_once_and_locked,
    an_address_without_a_feature_is_named,
];

/// The archive of a feature that leaves this word.
fn archive(version: &str, says: &str) -> Vec<u8> {
    let metadata = format!(
        r#"{{ "id": "tool", "version": "{version}", "postCreateCommand": "echo from_feature >> log" }}"#
    );
    Tar::default()
        .file("./devcontainer-feature.json", metadata.as_bytes())
        .file("./install.sh", format!("echo {says} > /tool\n").as_bytes())
        .end()
}

fn a_feature_of_a_registry_is_fetched_once_and_locked(place: &Place) {
    let registry = Server::with_login();
    let push = |version: &str, says: &str| {
        let tar = archive(version, says);
        let mut blobs = Blobs::default();
        let config = blobs.add(b"{}".to_vec(), "application/vnd.devcontainers");
        let layer = blobs.add(tar, "application/vnd.devcontainers.layer.v1+tar");
        let manifest = blobs.manifest(&config, &[layer]);
        registry.push(&blobs, &[&manifest], "me/features/tool:1");
        digest(&blobs.all[manifest["digest"].as_str().unwrap()])
    };
    let first = push("1.0.0", "one");
    let mut project = project(place, "");
    let text = format!(
        r#"{{ "image": "base:1", "features": {{ "{}/me/features/tool:1": {{}} }}, "postCreateCommand": "echo own >> log" }}"#,
        registry.address
    );
    project.write(".devcontainer/devcontainer.json", &text).write(".devcontainer/devcontainer-lock.json", "");
    project.run(&["up"]).exits(4).says("cannot be had");
    project.set("SETPOINT_REGISTRY_HOST", &registry.address);
    project.set("SETPOINT_REGISTRY_USER", "ann");
    let password = project.state().join("password");
    project.set("SETPOINT_REGISTRY_PASSWORD_FILE", &password.to_string_lossy());
    project.run(&["up"]).exits(4).says("cannot be taken from").says("with the password and nothing else");
    fs::write(&password, "opensesame\n").unwrap();
    project.effects();
    assert_eq!(project.up_effects(), ["from_feature", "own"]);
    assert_eq!(project.inside("cat /tool"), "one");
    assert!(project.read(".devcontainer/devcontainer-lock.json").contains(&first));
    project.run(&["up", "--frozen"]).exits(0).says("nothing to do");
    // The tag moves; what is locked does not.
    let second = push("1.1.0", "two");
    fs::remove_dir_all(project.state().join("features")).unwrap();
    project.run(&["up"]).exits(0);
    assert_eq!(project.inside("cat /tool"), "one");
    project.write(".devcontainer/devcontainer-lock.json", "");
    fs::remove_dir_all(project.state().join("features")).unwrap();
    project.run(&["up", "--frozen"]).exits(4).says("is not locked");
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.inside("cat /tool"), "two");
    assert!(project.read(".devcontainer/devcontainer-lock.json").contains(&second));
}

/// A project with the one feature at this path of the server.
fn with_feature_at(place: &Place, web: &Web, path: &str) -> Project {
    let project = project(place, "");
    let text = format!(
        r#"{{ "image": "base:1", "features": {{ "http://{}{path}": {{}} }}, "postCreateCommand": "echo own >> log" }}"#,
        web.address
    );
    project.write(".devcontainer/devcontainer.json", &text);
    project
}

fn a_feature_at_an_address_is_fetched_once_and_locked(place: &Place) {
    const LOCK: &str = ".devcontainer/devcontainer-lock.json";
    let path = "/v1/devcontainer-feature-tool.tgz";
    let web = Web::open();
    let (first, second) = (gzip(&archive("1.0.0", "one")), gzip(&archive("1.1.0", "two")));
    web.set(path, Answer::Elsewhere("/store/1".to_owned()));
    web.set("/store/1", Answer::Bytes(first.clone()));
    let project = with_feature_at(place, &web, path);
    project.run(&["plan"]).exits(0);
    assert_eq!(web.asked(), 0, "a plan does not fetch");
    assert_eq!(project.up_effects(), ["from_feature", "own"]);
    assert_eq!((web.asked(), project.inside("cat /tool")), (2, "one".to_owned()));
    // Another one at the same address is not looked for, until a lock file says that it is kept, or is not.
    web.set("/store/1", Answer::Bytes(second.clone()));
    project.run(&["up"]).exits(0).says("nothing to do");
    project.run(&["up", "--frozen"]).exits(4).says("is not locked");
    project.write(LOCK, "");
    project.run(&["up"]).exits(0).says("nothing to do");
    assert_eq!(web.asked(), 0, "what is here is not fetched again");
    let url = format!("http://{}{path}", web.address);
    let lock: serde_json::Value = serde_json::from_str(&project.read(LOCK)).unwrap();
    let locked = &lock["features"][&url];
    assert_eq!(locked["version"], "1.0.0", "{lock}");
    assert_eq!(locked["resolved"], url.as_str(), "{lock}");
    assert_eq!(locked["integrity"], digest(&first).as_str(), "{lock}");
    project.run(&["up", "--frozen"]).exits(0).says("nothing to do");
    // Where it has to be fetched again, it has to be the same.
    fs::remove_dir_all(project.state().join("features")).unwrap();
    for arguments in [&["up"][..], &["up", "--frozen"]] {
        let outcome = project.run(arguments);
        outcome.exits(4).says(&url).says("was changed").says(&digest(&second)).says(&digest(&first));
        outcome.says(".devcontainer/devcontainer.json:1:").says("remove the feature from the lock file");
    }
    web.set("/store/1", Answer::Bytes(first));
    project.run(&["up", "--frozen"]).exits(0).says("nothing to do");
    // Locked anew, it is the other one.
    fs::remove_dir_all(project.state().join("features")).unwrap();
    web.set("/store/1", Answer::Bytes(second.clone()));
    project.write(LOCK, "");
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.inside("cat /tool"), "two");
    assert!(project.read(LOCK).contains(&digest(&second)));
    project.run(&["up", "--frozen"]).exits(0).says("nothing to do");
}

fn an_address_without_a_feature_is_named(place: &Place) {
    let path = "/devcontainer-feature-tool.tgz";
    let web = Web::open();
    let project = with_feature_at(place, &web, path);
    let fails = |answer: Answer, words: &str, next: &str| {
        web.set(path, answer);
        let outcome = project.run(&["up"]);
        outcome.exits(4).says(".devcontainer/devcontainer.json:1:").says(words).says(next);
        assert_eq!(project.effects(), NOTHING);
    };
    project.run(&["up"]).exits(4).says("404 Not Found").says("check its address");
    fails(
        Answer::Bytes(b"<html>hello</html>".repeat(100)),
        "is not the archive of a feature",
        "a tar, maybe",
    );
    fails(Answer::Bytes(gzip(b"hello")), "is not the archive of a feature", "a tar, maybe");
    let other = Tar::default().file("install.sh", b"true").end();
    fails(Answer::Bytes(other), "has no devcontainer-feature.json", "at its top");
    let outside = Tar::default().file("../devcontainer-feature.json", b"{}").end();
    fails(Answer::Bytes(outside), "leads out of it", "at its top");
    fails(Answer::Endless, "larger than 268435456 bytes", "at its top");
    fails(Answer::Elsewhere(path.to_owned()), "leads on more than 5 times", "check its address");
    fails(Answer::Elsewhere("http://192.0.2.1/".to_owned()), "which is not safe", "check its address");
    // None of it was kept: what is there at last is what is installed.
    web.set(path, Answer::Bytes(gzip(&archive("1.0.0", "one"))));
    project.up();
    assert_eq!(project.inside("cat /tool"), "one");
    drop(web);
    fs::remove_dir_all(project.state().join("features")).unwrap();
    project.run(&["up"]).exits(4).says("Connection refused").says("the network and HTTPS_PROXY");
}
