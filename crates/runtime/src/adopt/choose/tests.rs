#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use setpoint_model::manifest::{Layer, parse};

use super::*;
use crate::engine::adoption::OfCompose;

const MANIFEST: &str = r#"setpoint = 1
[engine]
default = "docker"
[service.db]
image = "db:1"
[service.web]
image = "web:1"
depends_on = { seed = "completed" }
[service.seed]
image = "web:1"
"#;

fn container(id: &str, name: &str) -> Candidate {
    let (id, name) = (id.to_owned(), name.to_owned());
    Candidate { id, name, running: true, unit: None, was: None, compose: None }
}

fn of_compose(id: &str, service: &str) -> Candidate {
    let folder = Some(Path::new("/p").to_owned());
    let compose = Some(OfCompose { project: "shop".to_owned(), service: service.to_owned(), folder });
    Candidate { compose, ..container(id, &format!("shop-{service}-{id}")) }
}

fn envs(check: impl FnOnce(&[&Env])) {
    let manifest = parse(&[Layer { name: "setpoint.toml", text: MANIFEST }], "shop").unwrap();
    check(&manifest.envs.values().collect::<Vec<_>>());
}

fn id(unit: &str) -> UnitId {
    UnitId::new(Path::new("/p"), &UnitName::new(unit).unwrap())
}

#[test]
fn a_container_is_named_by_its_name_or_the_beginning_of_its_id() {
    let all = [container("abc1", "web"), container("abd2", "db"), container("f00d", "abc1x")];
    assert_eq!(named(&all, "web").unwrap().id, "abc1");
    assert_eq!(named(&all, "abd").unwrap().name, "db");
    let several = named(&all, "ab").unwrap_err();
    assert_eq!(several.to_string(), "`ab` is the beginning of several ids: abc1 (web), abd2 (db)");
    let absent = named(&all, "wbe").unwrap_err();
    assert_eq!(absent.to_string(), "there is no container `wbe`; there is: web, db, abc1x");
    assert_eq!(absent.hint(), "did you mean `web`?");
    assert!(matches!(named(&all, ""), Err(Unfit::NoContainer { .. })));
    assert_eq!(named(&[], "web").unwrap_err().to_string(), "there is no container `web`");
}

#[test]
fn a_project_is_taken_as_a_whole_or_not_at_all() {
    envs(|envs| {
        let all = [of_compose("1", "db"), of_compose("2", "web"), container("3", "other")];
        let chosen = of_project(&all, "shop", envs).unwrap();
        let units: Vec<_> = chosen.iter().map(|(env, one)| (env.name.as_str(), one.id.as_str())).collect();
        assert_eq!(units, [("db", "1"), ("web", "2")]);
        let absent = of_project(&all, "shpo", envs).unwrap_err();
        assert_eq!(absent.hint(), "did you mean `shop`?");
        let undeclared = of_project(&[of_compose("1", "wbe")], "shop", envs).unwrap_err();
        assert_eq!(undeclared.hint(), "did you mean `web`?");
        let scaled = of_project(&[of_compose("1", "web"), of_compose("2", "web")], "shop", envs).unwrap_err();
        assert!(scaled.to_string().contains("runs 2 times"), "{scaled}");
    });
}

#[test]
fn a_container_becomes_a_unit_if_neither_is_something_else() {
    envs(|envs| {
        let env = |name: &str| *envs.iter().find(|env| env.name.as_str() == name).unwrap();
        let web = container("1", "web");
        let (free, ended) =
            (is_free(env("db"), &id("db"), &web, &[]), Candidate { running: false, ..web.clone() });
        assert_eq!(free, Ok(()));
        let stopped = is_free(env("db"), &id("db"), &ended, &[]).unwrap_err();
        assert!(matches!(stopped, Unfit::NotRunning { .. }));
        // Its end is what the others wait for.
        assert_eq!(is_free(env("seed"), &id("seed"), &ended, &[]), Ok(()));
        let taken = Candidate { unit: Some(id("web")), ..web.clone() };
        assert!(matches!(is_free(env("db"), &id("db"), &taken, &[]), Err(Unfit::Taken { .. })));
        assert_eq!(is_free(env("web"), &id("web"), &taken, std::slice::from_ref(&taken)), Ok(()));
        let other = Candidate { unit: Some(id("db")), ..container("2", "mine") };
        assert!(matches!(is_free(env("db"), &id("db"), &web, &[other]), Err(Unfit::Exists { .. })));
    });
}

#[test]
fn what_stands_in_the_place_of_a_unit_is_found() {
    let (web, folder) = (id("web"), Path::new("/p"));
    let found = |one: Candidate| in_its_place(&[one], &web, folder, Some("web")).is_some();
    assert!(!found(container("1", "web")));
    assert!(found(of_compose("1", "web")));
    assert!(!found(of_compose("1", "db")));
    assert!(!found(Candidate { running: false, ..of_compose("1", "web") }));
    assert!(!found(Candidate { unit: Some(web.clone()), ..of_compose("1", "web") }));
    assert!(found(Candidate { was: Some(web.clone()), running: false, ..container("1", "shop-web") }));
    assert!(in_its_place(&[of_compose("1", "web")], &web, Path::new("/q"), Some("web")).is_none());
}
