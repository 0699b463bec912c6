//! Asking a server whether it is well: a connection, and over it perhaps one request by HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::error::SandboxError;
use crate::setup;
use crate::spec::{Ask, Get};
use crate::unit::Running;

/// How much of an answer is read to find its status.
const LONGEST: usize = 16 * 1024;
/// How much is told of what stands beside a status.
const REASON: usize = 80;

/// The addresses of a network's own loopback.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Asks who listens inside a sandbox that runs, within its network. The inner error says why the answer is not good.
///
/// # Errors
/// If it does not run any more, or its network cannot be entered.
pub fn ask_inside(
    running: &Running,
    question: Ask,
    at_most: Duration,
) -> Result<Result<(), String>, SandboxError> {
    let of = running.clone();
    // A network is entered by one thread, and never left again.
    let asks = move || {
        if !setup::is_in_network_of(&of) {
            setup::enter_network(&of)?;
        }
        let (good, said) = ask(&question, &own_addresses(), at_most);
        Ok(if good { Ok(()) } else { Err(said) })
    };
    let thread = std::thread::Builder::new().spawn(asks);
    let thread = thread.map_err(|error| SandboxError::io("start", "a thread that asks", error))?;
    thread.join().unwrap_or(Err(SandboxError::EndedEarly))
}

/// The addresses of the calling thread's network, the loopback's first.
fn own_addresses() -> Vec<IpAddr> {
    let known = std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default();
    LOOPBACK.into_iter().chain(local_addresses(&known)).collect()
}

/// The local addresses in the kernel's table of routes: each stands in the line above one that says so.
fn local_addresses(table: &str) -> Vec<IpAddr> {
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let is_local = |line: &str| line.starts_with("/32 host LOCAL");
    let pairs = lines.windows(2).filter(|pair| is_local(pair[1]));
    let addresses = pairs.filter_map(|pair| pair[0].trim_start_matches("|-- ").parse::<IpAddr>().ok());
    let mut addresses: Vec<_> = addresses.filter(|address| !address.is_loopback()).collect();
    addresses.dedup();
    addresses
}

/// Asks who listens on the first of these addresses that takes a connection, from here. The error says why the answer is
/// not good.
///
/// # Errors
/// Why the answer is not good.
pub fn ask_from_here(question: &Ask, addresses: &[IpAddr], at_most: Duration) -> Result<(), String> {
    let (good, said) = ask(question, addresses, at_most);
    if good { Ok(()) } else { Err(said) }
}

/// Asks on the first of these addresses where somebody listens, all of the calling process's network. Gives whether the
/// answer is good, and what is to be told of it.
pub(crate) fn ask(ask: &Ask, addresses: &[IpAddr], at_most: Duration) -> (bool, String) {
    let until = Deadline { at: Instant::now() + at_most, at_most };
    let stream = match connect(ask.port, addresses, &until) {
        Ok(stream) => stream,
        Err(error) => return (false, format!("port {}: {}", ask.port, until.told(&error))),
    };
    let Some(get) = &ask.get else { return (true, String::new()) };
    match request(stream, ask.port, get, &until) {
        Ok(Some((status, reason))) => {
            let good = get.status.map_or((200..400).contains(&status), |wanted| status == wanted);
            let told = format!("GET {}: {status} {reason}", get.path);
            (good, told.trim_end().to_owned())
        }
        Ok(None) => (false, format!("GET {}: the answer is not HTTP", get.path)),
        Err(error) => (false, format!("GET {}: {}", get.path, until.told(&error))),
    }
}

/// Until when all of it has to be done.
struct Deadline {
    at: Instant,
    at_most: Duration,
}

impl Deadline {
    /// The time that is left, which is never none.
    fn left(&self) -> io::Result<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn told(&self, error: &io::Error) -> String {
        match error.kind() {
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("no answer within {:?}", self.at_most),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                "the connection was closed without an answer".to_owned()
            }
            _ => error.to_string(),
        }
    }
}

/// What is told of a failure is that of the first address.
fn connect(port: u16, addresses: &[IpAddr], until: &Deadline) -> io::Result<TcpStream> {
    let mut refused = None;
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), until.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => drop(refused.get_or_insert(error)),
        }
    }
    Err(refused.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// The status of the answer and what stands beside it; nothing if it is not HTTP.
fn request(
    mut stream: TcpStream,
    port: u16,
    get: &Get,
    until: &Deadline,
) -> io::Result<Option<(u16, String)>> {
    stream.set_write_timeout(Some(until.left()?))?;
    let asked = format!(
        "GET {} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: setpoint\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        get.path
    );
    stream.write_all(asked.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match status(&answer) {
            Some(Answer::Status(status, reason)) => return Ok(Some((status, reason))),
            Some(Answer::Other) => return Ok(None),
            None if answer.len() >= LONGEST => return Ok(None),
            None => {}
        }
        stream.set_read_timeout(Some(until.left()?))?;
        match stream.read(&mut piece) {
            Ok(0) if answer.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(0) => return Ok(None),
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The status, and what stands beside it.
    Status(u16, String),
    /// It is not HTTP.
    Other,
}

/// What the beginning of an answer says; nothing as long as it says too little. What only announces another answer is
/// passed over.
fn status(mut answer: &[u8]) -> Option<Answer> {
    loop {
        let begins = &answer[..answer.len().min(5)];
        if !b"HTTP/".starts_with(begins) {
            return Some(Answer::Other);
        }
        let end = answer.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&answer[..end]);
        let mut words = line.trim_end().splitn(3, ' ').skip(1);
        let number = words.next().and_then(|word| word.parse::<u16>().ok());
        let Some(number) = number.filter(|number| (100..1000).contains(number)) else {
            return Some(Answer::Other);
        };
        // 101 is the last answer by HTTP.
        if number >= 200 || number == 101 {
            let reason = words.next().unwrap_or_default();
            let plain = reason.chars().filter(|char| !char.is_control()).take(REASON).collect();
            return Some(Answer::Status(number, plain));
        }
        let blank = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        answer = &answer[blank + 4..];
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn is(number: u16, reason: &str) -> Option<Answer> {
        Some(Answer::Status(number, reason.to_owned()))
    }

    #[test]
    fn addresses_are_read_of_the_table_of_routes() {
        let table = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.7.0.2\n        /32 host LOCAL\n     |-- 10.7.0.255\n        \
                     /32 link BROADCAST\n        |-- 127.0.0.1\n           /32 host LOCAL\n";
        assert_eq!(local_addresses(table), ["10.7.0.2".parse::<IpAddr>().unwrap()]);
        assert!(local_addresses("").is_empty());
    }

    #[test]
    fn a_status_is_read_as_soon_as_it_is_there() {
        for (answer, expected) in [
            (&b""[..], None),
            (b"HTT", None),
            (b"HTTP/1.1 20", None),
            (b"HTTP/1.1 200 OK\r\n", is(200, "OK")),
            (b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nbody", is(503, "Service Unavailable")),
            (b"HTTP/1.1 204\n", is(204, "")),
            (b"HTTP/1.1 404 no\x1b[31m\tnot here\r\n", is(404, "no[31mnot here")),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n", None),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n", is(200, "OK")),
            (b"HTTP/1.1 101 Switching\r\n", is(101, "Switching")),
            (b"HTTP/1.1 abc\r\n", Some(Answer::Other)),
            (b"HTTP/1.1 7\r\n", Some(Answer::Other)),
            (b"HTTP/1.1\r\n", Some(Answer::Other)),
            (b"SSH-2.0", Some(Answer::Other)),
            (b"\x15\x03\x01", Some(Answer::Other)),
        ] {
            assert_eq!(status(answer), expected, "{}", String::from_utf8_lossy(answer));
        }
    }

    /// What is said of a server that answers with these bytes.
    fn said(answer: &'static [u8], wanted: Option<u16>, at_most: Duration) -> (bool, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).unwrap();
            stream.write_all(answer).unwrap();
            if answer.is_empty() {
                // Nothing at all comes until whoever asked has gone.
                let _ = stream.read(&mut [0; 1]);
            }
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let get = Get { path: "/well?a=b".to_owned(), status: wanted };
        let said = ask(&Ask { port, get: Some(get) }, &LOOPBACK, at_most);
        let asked = server.join().unwrap();
        assert!(asked.starts_with("GET /well?a=b HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n"), "{asked}");
        said
    }

    #[test]
    fn what_is_good_is_any_answer_of_200_to_399_or_the_one_that_is_wanted() {
        let long = Duration::from_secs(60);
        let told = |text: &str| format!("GET /well?a=b: {text}");
        assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\n", None, long), (true, told("200 OK")));
        assert_eq!(said(b"HTTP/1.1 302 Found\r\n\r\n", None, long), (true, told("302 Found")));
        assert_eq!(said(b"HTTP/1.1 404 Not Found\r\n\r\n", None, long), (false, told("404 Not Found")));
        assert_eq!(said(b"HTTP/1.1 200 OK\r\n\r\n", Some(204), long), (false, told("200 OK")));
        assert_eq!(said(b"HTTP/1.1 503\r\n\r\n", Some(503), long), (true, told("503")));
        assert_eq!(said(b"+PONG\r\n", None, long), (false, told("the answer is not HTTP")));
        assert_eq!(said(b"HTTP/1.1 20", None, long), (false, told("the answer is not HTTP")));
        let short = Duration::from_millis(50);
        assert_eq!(said(b"", None, short), (false, told("no answer within 50ms")));
    }

    #[test]
    fn a_port_is_asked_on_one_address_after_the_other() {
        let listener = TcpListener::bind("127.0.0.7:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let try_on = |addresses: &[&str]| {
            let more = addresses.iter().map(|address| address.parse().unwrap());
            let all: Vec<IpAddr> = LOOPBACK.into_iter().chain(more).collect();
            ask(&Ask { port, get: None }, &all, Duration::from_secs(60))
        };
        assert_eq!(try_on(&[]), (false, format!("port {port}: connection refused")));
        assert_eq!(try_on(&["127.0.0.7"]), (true, String::new()));
        assert_eq!(try_on(&["127.0.0.8"]).1, format!("port {port}: connection refused"));
    }
}
