//! A web server on a free port of this machine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a path answers.
#[derive(Clone)]
pub enum Answer {
    /// This.
    Bytes(Vec<u8>),
    /// It is somewhere else.
    Elsewhere(String),
    /// Zeros without an end.
    Endless,
}

/// A server that ends with its test.
pub struct Web {
    pub address: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, Answer>,
    asked: usize,
    ended: bool,
}

impl Web {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for caller in listener.incoming() {
                if of_thread.lock().unwrap().ended {
                    return;
                }
                // A caller that has gone away needs no answer.
                let _ = answer(&caller.unwrap(), &of_thread);
            }
        });
        Self { address, shared }
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.shared.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// How often it was asked for anything since the last call.
    pub fn asked(&self) -> usize {
        std::mem::take(&mut self.shared.lock().unwrap().asked)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.lock().unwrap().ended = true;
        let _ = TcpStream::connect(&self.address);
    }
}

fn answer(mut caller: &TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut lines = BufReader::new(caller).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let found = {
        let mut shared = shared.lock().unwrap();
        shared.asked += 1;
        shared.answers.get(path).cloned()
    };
    let end = "Connection: close\r\n\r\n";
    match found {
        None => write!(caller, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n{end}"),
        Some(Answer::Elsewhere(to)) => {
            write!(caller, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{end}")
        }
        Some(Answer::Bytes(bytes)) => {
            write!(caller, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{end}", bytes.len())?;
            caller.write_all(&bytes)
        }
        Some(Answer::Endless) => {
            write!(caller, "HTTP/1.1 200 OK\r\n{end}")?;
            loop {
                caller.write_all(&[0; 1 << 16])?;
            }
        }
    }
}
