//! A real browser, led by its WebDriver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_daemon::free_port;
use crate::harness::{Project, until};

/// The name that WebDriver gives an element by.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page, whose files are the project's.
pub struct Browser {
    port: u16,
    session: String,
    driver: Child,
}

impl Browser {
    pub fn new(project: &Project) -> Self {
        let port = free_port();
        let home = project.at("home");
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).env("HOME", &home).env("TMPDIR", &home).process_group(0);
        let driver = driver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut browser = Self { port, session: String::new(), driver };
        until("the driver listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let profile = format!("--user-data-dir={}", project.at("browser").display());
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", &profile];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let made = browser.ask("POST", "", &json!({ "capabilities": { "alwaysMatch": options } }));
        browser.session = format!("/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(String, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (text, session) = (if method == "GET" { String::new() } else { body.to_string() }, &self.session);
        let head = format!("Host: 127.0.0.1:{}\r\nContent-Length: {}", self.port, text.len());
        stream.write_all(
            format!("{method} /session{session}{path} HTTP/1.1\r\n{head}\r\n\r\n{text}").as_bytes(),
        )?;
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut answer = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut answer)?;
        Ok((head, serde_json::from_slice::<Value>(&answer)?["value"].take()))
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (head, value) = self.try_ask(method, path, body).unwrap();
        assert!(head.starts_with("http/1.1 200"), "{method} {path}: {value}");
        value
    }

    #[track_caller]
    pub fn open(&self, address: &str) {
        self.ask("POST", "/url", &json!({ "url": address }));
    }

    /// Forgets all cookies.
    pub fn forget(&self) {
        self.ask("DELETE", "/cookie", &json!({}));
    }

    /// What a script returns.
    #[track_caller]
    pub fn run(&self, script: &str, argument: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [argument] }))
    }

    /// The text that is seen of the first element that a selector finds; nothing if there is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        self.run(script, selector).as_str().unwrap().to_owned()
    }

    /// Clicks the first element of an XPath, as a user would; says whether it could be.
    pub fn click(&self, path: &str) -> bool {
        self.element(path).is_some_and(|element| {
            let clicked = self.try_ask("POST", &format!("/element/{element}/click"), &json!({})).unwrap();
            clicked.0.starts_with("http/1.1 200")
        })
    }

    pub fn enter(&self, path: &str, text: &str) {
        let element = self.element(path).unwrap();
        self.ask("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    fn element(&self, path: &str) -> Option<String> {
        let found = self.try_ask("POST", "/element", &json!({ "using": "xpath", "value": path })).unwrap().1;
        Some(found[ELEMENT].as_str()?.to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.try_ask("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
