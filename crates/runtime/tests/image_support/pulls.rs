//! Pulls from a registry.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use setpoint_runtime::image::{Credentials, Image, ImageError, Limits, Source};

use crate::registry::{OTHER, Server, USER};
use crate::support::*;

fn login(server: &Server, user: &str, password: &str) -> Credentials {
    logins(&[("", &server.address, (user, password))])
}

/// The logins that an environment gives: each with its name, its registry, its user and his password.
fn logins(logins: &[(&str, &str, (&str, &str))]) -> Credentials {
    let variables = logins.iter().flat_map(|(name, host, (user, password))| {
        [("HOST", host), ("USER", user), ("PASSWORD", password)]
            .map(|(field, value)| (format!("SETPOINT_REGISTRY_{name}{field}"), (*value).to_owned()))
    });
    Credentials::from_env(&variables.collect())
}

fn with(home: &Home, source: &Source, credentials: &Credentials) -> Result<Image, ImageError> {
    home.store.ensure(source, false, credentials, &|_, _| {}, &|| false)
}

fn note(image: &Image) -> String {
    std::fs::read_to_string(image.layers[0].join("note")).unwrap()
}

#[test]
fn by_tag_and_by_digest_and_then_offline() {
    let mut server = Server::open();
    let mut blobs = Blobs::default();
    let upper = Tar::default().file("upper", b"").end();
    let image = blobs.image(&[(busybox("pulled"), gzip), (upper, zstd)]);
    server.push(&blobs, &[&image], "team/app:1");
    let home = Home::new();
    let tag = server.source("team/app:1");
    assert_eq!(home.store.local(&tag).unwrap(), None);
    let found = home.ensure(&tag).unwrap();
    assert_eq!(found.digest, image["digest"].as_str().unwrap());
    assert_eq!((note(&found).as_str(), found.layers.len()), ("pulled", 2));
    let by_digest = server.source(&format!("team/app@{}", found.digest));
    assert_eq!(home.ensure(&by_digest).unwrap(), found);
    // Only the layers stay, not what they came in.
    assert_eq!(home.remains().len(), 2);
    server.stop();
    assert_eq!(home.store.local(&tag).unwrap().as_ref(), Some(&found));
    assert_eq!(home.ensure(&tag).unwrap(), found);
    assert_eq!(home.always(&by_digest).unwrap(), found);
    let error = home.always(&tag).unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_moved_tag_is_seen_only_when_asked() {
    let server = Server::open();
    let home = Home::new();
    let source = server.source("app:latest");
    let mut blobs = Blobs::default();
    let first = blobs.image(&[(busybox("first"), gzip)]);
    server.push(&blobs, &[&first], "app:latest");
    let before = home.ensure(&source).unwrap();
    assert_eq!(home.always(&source).unwrap(), before);
    let second = blobs.image(&[(busybox("second"), gzip)]);
    server.push(&blobs, &[&second], "app:latest");
    assert_eq!(home.ensure(&source).unwrap(), before);
    let after = home.always(&source).unwrap();
    assert_eq!((note(&before).as_str(), note(&after).as_str()), ("first", "second"));
    assert_eq!(home.ensure(&source).unwrap(), after);
}

#[test]
fn an_index_is_searched_for_this_machine() {
    let server = Server::open();
    let mut blobs = Blobs::default();
    let mine = blobs.image(&[(busybox("mine"), gzip)]);
    let other = blobs.claimed(&[(gzip(b"x"), digest(b"x"))], "s390x");
    let index = blobs.index(&[(other.clone(), "s390x"), (mine.clone(), ARCHITECTURE)]);
    server.push(&blobs, &[&mine, &other, &index], "many:1");
    let home = Home::new();
    let found = home.ensure(&server.source("many:1")).unwrap();
    assert_eq!((note(&found).as_str(), found.digest.as_str()), ("mine", mine["digest"].as_str().unwrap()));
    let by_index = server.source(&format!("many@{}", index["digest"].as_str().unwrap()));
    assert_eq!(home.ensure(&by_index).unwrap(), found);

    let foreign = blobs.index(&[(other.clone(), "s390x"), (other.clone(), "ppc64le")]);
    server.push(&blobs, &[&other, &foreign], "foreign:1");
    let error = home.ensure(&server.source("foreign:1")).unwrap_err();
    let expected = ["linux/s390x".to_owned(), "linux/ppc64le".to_owned()];
    assert!(matches!(&error, ImageError::NoPlatform { available, .. } if *available == expected), "{error}");
    let error =
        home.ensure(&server.source(&format!("foreign@{}", other["digest"].as_str().unwrap()))).unwrap_err();
    assert!(matches!(error, ImageError::NoPlatform { .. }), "{error}");
}

#[test]
fn what_the_registry_lies_about_is_named() {
    let server = Server::open();
    let blob = gzip(&busybox("honest"));
    let mut blobs = Blobs::default();
    let image = blobs.claimed(&[(blob.clone(), digest(&busybox("honest")))], ARCHITECTURE);
    server.push(&blobs, &[&image], "lying:1");
    let kept = server.blob(&digest(&blob));
    let pull = || {
        let home = Home::new();
        let error = home.ensure(&server.source("lying:1")).unwrap_err();
        assert_eq!(home.remains(), [""; 0]);
        error
    };
    let mut flipped = blob.clone();
    flipped[100] ^= 1;
    std::fs::write(&kept, &flipped).unwrap();
    let error = pull();
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
    std::fs::write(&kept, &blob[..blob.len() / 2]).unwrap();
    let error = pull();
    assert!(matches!(error, ImageError::SizeMismatch { .. }), "{error}");
    std::fs::write(&kept, [&blob[..], b"more"].concat()).unwrap();
    let error = pull();
    assert!(matches!(error, ImageError::SizeMismatch { .. }), "{error}");
    std::fs::remove_file(&kept).unwrap();
    let error = pull();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    std::fs::write(server.blob(image["digest"].as_str().unwrap()), "{}").unwrap();
    let error = pull();
    assert!(matches!(error, ImageError::DigestMismatch { .. } | ImageError::Registry { .. }), "{error}");

    let wrong = blobs.claimed(&[(blob.clone(), digest(b"other"))], ARCHITECTURE);
    server.push(&blobs, &[&wrong], "wrong:1");
    let home = Home::new();
    let error = home.ensure(&server.source("wrong:1")).unwrap_err();
    assert!(matches!(error, ImageError::DiffIdMismatch { .. }), "{error}");

    let short = gzip(&busybox("short"));
    let short =
        blobs.claimed(&[(short[..short.len() / 2].to_vec(), digest(&busybox("short")))], ARCHITECTURE);
    server.push(&blobs, &[&short], "short:1");
    let error = home.ensure(&server.source("short:1")).unwrap_err();
    assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::open();
    let home = Home::new();
    let error = home.ensure(&server.source("nothing:1")).unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(error.hint().is_some());
    let error = home.ensure(&Source::Reference("UPPER".to_owned())).unwrap_err();
    assert!(matches!(error, ImageError::BadReference { .. }), "{error}");
}

#[test]
fn logins_are_needed_refused_and_accepted() {
    let server = Server::with_login();
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("private"), gzip)]);
    server.push(&blobs, &[&image], "private:1");
    let home = Home::new();
    let source = server.source("private:1");
    let error = home.ensure(&source).unwrap_err();
    assert!(matches!(error, ImageError::LoginNeeded { .. }), "{error}");
    let error = with(&home, &source, &login(&server, "ann", "wrongword")).unwrap_err();
    assert!(matches!(error, ImageError::LoginRefused { .. }), "{error}");
    let text = format!("{error} {error:?} {:?} {:?}", error.hint(), login(&server, "ann", "wrongword"));
    assert!(!text.contains("wrongword"));
    assert_eq!(note(&with(&home, &source, &login(&server, "ann", "opensesame")).unwrap()), "private");

    let other = Home::new();
    let saved = format!(r#"{{"auths":{{"{}":{{"auth":"YW5uOm9wZW5zZXNhbWU="}}}}}}"#, server.address);
    std::fs::write(other.path("config.json"), saved).unwrap();
    let folder = other.folder.path().to_str().unwrap().to_owned();
    let saved = Credentials::from_env(&BTreeMap::from([("DOCKER_CONFIG".to_owned(), folder)]));
    assert_eq!(note(&with(&other, &source, &saved).unwrap()), "private");
}

#[test]
fn of_two_registries_each_is_given_its_own_login_and_a_third_none() {
    let (one, other) = (Server::with_login(), Server::with_other_login());
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("private"), gzip)]);
    [&one, &other].iter().for_each(|server| server.push(&blobs, &[&image], "private:1"));
    let both = logins(&[("", &one.address, USER), ("OTHER_", &other.address, OTHER)]);
    for server in [&one, &other] {
        assert_eq!(note(&with(&Home::new(), &server.source("private:1"), &both).unwrap()), "private");
    }
    let exchanged = logins(&[("", &other.address, USER), ("OTHER_", &one.address, OTHER)]);
    for server in [&one, &other] {
        let error = with(&Home::new(), &server.source("private:1"), &exchanged).unwrap_err();
        assert!(matches!(error, ImageError::LoginRefused { .. }), "{error}");
    }

    // Whoever is none of the two, and asks for a login, gets none.
    let curious = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/private:1", curious.local_addr().unwrap());
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in curious.incoming() {
            let mut client = client.unwrap();
            let mut asked = vec![0; 4096];
            let length = client.read(&mut asked).unwrap();
            let no = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"all\"\r\nConnection: close\r\n\
                      Content-Length: 0\r\n\r\n";
            client.write_all(no.as_bytes()).unwrap();
            tell.send(String::from_utf8_lossy(&asked[..length]).to_lowercase()).unwrap();
        }
    });
    let error = with(&Home::new(), &Source::Reference(reference), &both).unwrap_err();
    assert!(matches!(error, ImageError::LoginNeeded { .. }), "{error}");
    let heard: Vec<String> = heard.try_iter().collect();
    assert!(!heard.is_empty() && heard.iter().all(|asked| asked.starts_with("get /v2/")), "{heard:?}");
    assert!(heard.iter().all(|asked| !asked.contains("authorization")), "{heard:?}");
}

#[test]
fn a_broken_download_is_taken_up_where_it_stopped() {
    let server = Server::open();
    let mut blobs = Blobs::default();
    let blob = gzip(&busybox("resumed"));
    let image = blobs.claimed(&[(blob.clone(), digest(&busybox("resumed")))], ARCHITECTURE);
    server.push(&blobs, &[&image], "resumed:1");
    let part = format!("state/blobs/v1/{}.part", digest(&blob).replace("sha256:", ""));
    for start in [&blob[..blob.len() / 2], &b"wrong"[..], &blob[..], &[0; 4 << 20][..]] {
        let home = Home::new();
        std::fs::create_dir_all(home.path("state/blobs/v1")).unwrap();
        std::fs::write(home.path(&part), start).unwrap();
        assert_eq!(note(&home.ensure(&server.source("resumed:1")).unwrap()), "resumed");
        assert_eq!(home.remains().len(), 1);
    }
}

/// Passes bytes on to a registry, but only so many of each connection's answers.
fn stingy(server: &Server, most: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let to = server.address.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, to) = (client.unwrap(), to.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut registry = std::net::TcpStream::connect(&to)?;
                let mut asking = (client.try_clone()?, registry.try_clone()?);
                std::thread::spawn(move || std::io::copy(&mut asking.0, &mut asking.1));
                let mut buffer = [0; 8192];
                let mut left = most;
                while left > 0 {
                    let count = registry.read(&mut buffer[..left.min(8192)])?;
                    if count == 0 {
                        break;
                    }
                    client.write_all(&buffer[..count])?;
                    left -= count;
                }
                client.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    address
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let server = Server::open();
    let mut blobs = Blobs::default();
    let noise: Vec<u8> = (0..600_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let tar = Tar::default().file("noise", &noise).file("note", b"whole").end();
    let image = blobs.image(&[(tar, plain)]);
    server.push(&blobs, &[&image], "broken:1");
    let address = stingy(&server, 1 << 20);
    let home = Home::new();
    let found = home.ensure(&Source::Reference(format!("{address}/broken:1"))).unwrap();
    assert_eq!(note(&found), "whole");
    let address = stingy(&server, 100 << 10);
    let home = Home::new();
    let error = home.ensure(&Source::Reference(format!("{address}/broken:1"))).unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    // What was had is kept for the next time.
    assert!(home.remains()[0].ends_with(".part"));
}

#[test]
fn silence_and_unknown_names_end_in_time() {
    let limits =
        Limits { connect: Duration::from_secs(1), answer: Duration::from_secs(1), ..Limits::default() };
    let home = Home::with(limits);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = Source::Reference(format!("{}/silent:1", silent.local_addr().unwrap()));
    let started = Instant::now();
    let error = home.ensure(&source).unwrap_err();
    assert!(matches!(error, ImageError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));

    let home = Home::new();
    let started = Instant::now();
    let error = home.ensure(&Source::Reference("registry.invalid/app:1".to_owned())).unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. } | ImageError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());

    let started = Instant::now();
    let stop = || started.elapsed() > Duration::from_millis(300);
    let stopped = home.store.ensure(&source, false, &Credentials::none(), &|_, _| {}, &stop);
    assert!(matches!(stopped, Err(ImageError::Cancelled)), "{stopped:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}
