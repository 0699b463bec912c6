//! Questions to an engine past everything of ours, on its own socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// An engine's own interface.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The status and the body of an answer.
    fn request(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: engine\r\n{length}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn get(&self, path: &str) -> Value {
        let (mut status, mut body) = self.request("GET", path);
        // Podman reads what it lists one by one, and fails where one of them goes meanwhile.
        while status == 500 && body.contains("image not known") {
            (status, body) = self.request("GET", path);
        }
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// What an answer has in its body.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200 "), "{path}");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        answer.split_off(end + 4)
    }

    pub fn post(&self, path: &str) {
        let (status, body) = self.request("POST", path);
        assert!((200..300).contains(&status), "{path}: {body}");
    }

    /// Makes something that this text describes.
    pub fn create(&self, path: &str, text: &str) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = text.len();
        let head = "Host: engine\r\nContent-Type: application/json\r\n";
        write!(stream, "POST {path} HTTP/1.0\r\n{head}Content-Length: {length}\r\n\r\n{text}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 201 "), "{path}: {answer}");
    }

    pub fn delete(&self, path: &str) {
        let (status, body) = self.request("DELETE", path);
        assert!((200..300).contains(&status), "{path}: {body}");
    }

    /// The containers and volumes of steps, and the images of steps, by their names.
    pub fn of_steps(&self) -> (Vec<String>, Vec<String>) {
        let containers = self.get("/v1.41/containers/json?all=1");
        let volumes = self.get("/v1.41/volumes");
        let images = self.get("/v1.41/images/json");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names = list(&containers).into_iter().flat_map(|one| list(&one["Names"]));
        let volumes = list(&volumes["Volumes"]).into_iter().map(|one| one["Name"].clone());
        let tags = list(&images).into_iter().flat_map(|one| list(&one["RepoTags"]));
        let ours = |names: Vec<Value>| {
            let names =
                names.iter().filter_map(|name| Some(name.as_str()?.trim_start_matches('/').to_owned()));
            names.filter(|name| name.trim_start_matches("localhost/").starts_with("setpoint-step")).collect()
        };
        (ours(names.chain(volumes).collect()), ours(tags.collect()))
    }
}
