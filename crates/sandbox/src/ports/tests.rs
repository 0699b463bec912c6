//! What comes to a port, and where it goes, without a sandbox.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::sync::watch;

use super::route::{Busy, Route, Target};
use super::{datagrams, streams};

const SOON: Duration = Duration::from_secs(10);

fn somewhere() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

/// A port that leads nowhere yet.
struct Place {
    at: SocketAddr,
    route: Arc<Route>,
    busy: Busy,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new(is_http: bool) -> Self {
        let busy = Busy::default();
        let route = Arc::new(Route::new());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(somewhere())).unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(streams::serve(Arc::new(listener), Arc::clone(&route), is_http));
        Self { at, route, busy, runtime }
    }

    /// Leads to this address from now on; what this gives ends it.
    fn leads(&self, to: SocketAddr) -> watch::Sender<bool> {
        let gone = watch::Sender::new(false);
        self.route.open(Arc::new(Target::new(to, true, gone.subscribe(), self.busy.clone())));
        gone
    }

    fn connects(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }
}

/// A server that does this with each of its connections.
fn serves(with: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind(somewhere()).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let with = with.clone();
            std::thread::spawn(move || with(stream.unwrap()));
        }
    });
    at
}

/// The lines of the next request or answer, up to the empty one.
fn head(from: &mut impl io::BufRead) -> Vec<String> {
    from.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect()
}

/// Answers each request of a connection with this word.
fn answers(word: &'static str) -> SocketAddr {
    serves(move |stream| {
        let mut reader = BufReader::new(&stream);
        while !head(&mut reader).is_empty() {
            write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len()).unwrap();
        }
    })
}

/// The first line of the answer to a request, and what is answered.
fn asks(stream: &mut BufReader<TcpStream>, request: &str) -> (String, String) {
    write!(stream.get_mut(), "{request}\r\nHost: here\r\n\r\n").unwrap();
    answered(stream)
}

fn answered(stream: &mut BufReader<TcpStream>) -> (String, String) {
    let lines = head(stream);
    let length =
        lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    (lines.first().cloned().unwrap_or_default(), String::from_utf8(body).unwrap())
}

const OK: &str = "HTTP/1.1 200 OK";

/// Answers with the number of bytes, once all of them have come.
fn counts() -> SocketAddr {
    serves(|mut stream| {
        let read = io::copy(&mut stream, &mut io::sink()).unwrap();
        write!(stream, "{read}").unwrap();
    })
}

fn said(mut stream: TcpStream, bytes: usize) -> String {
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn whoever_has_said_all_still_hears_the_answer() {
    let place = Place::new(false);
    let _gone = place.leads(counts());
    assert_eq!(said(place.connects(), 3_000_000), "3000000");
    assert_eq!(said(place.connects(), 0), "0");
}

#[test]
fn many_connections_are_open_at_once() {
    let place = Place::new(false);
    let _gone = place.leads(counts());
    let open: Vec<TcpStream> = (0..60).map(|_| place.connects()).collect();
    for (index, stream) in open.into_iter().enumerate() {
        assert_eq!(said(stream, index), index.to_string());
    }
}

#[test]
fn who_comes_before_there_is_anything_waits_for_it() {
    let place = Place::new(false);
    let waits = place.connects();
    let address = TcpListener::bind(somewhere()).unwrap().local_addr().unwrap();
    // It does not listen yet.
    let _gone = place.leads(address);
    let listener = TcpListener::bind(address).unwrap();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"here").unwrap());
    assert_eq!(said(waits, 0), "here");
    server.join().unwrap();
}

/// A server that queues hardly anybody whom it has not taken, and takes one after the other.
fn queues_few() -> SocketAddr {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &somewhere()).unwrap();
    listen(&listener, 4).unwrap();
    let at = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in TcpListener::from(listener).incoming() {
            let stream = stream.unwrap();
            head(&mut BufReader::new(&stream));
            std::thread::sleep(Duration::from_millis(1));
            let _ = write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    at
}

#[test]
fn many_who_waited_are_let_in_a_few_at_a_time() {
    for is_http in [true, false] {
        let place = Place::new(is_http);
        let waiting: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = place.connects();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                stream
            })
            .collect();
        let _gone = place.leads(queues_few());
        for stream in waiting {
            let said = head(&mut BufReader::new(stream));
            assert!(said.first().is_some_and(|line| line.ends_with("200 OK")), "{is_http}: {said:?}");
        }
    }
}

#[test]
fn a_connection_ends_when_nobody_listens_any_more() {
    let place = Place::new(false);
    let listener = TcpListener::bind(somewhere()).unwrap();
    let _gone = place.leads(listener.local_addr().unwrap());
    let first = place.connects();
    drop(listener.accept().unwrap());
    drop((first, listener));
    let read = place.connects().read(&mut [0]);
    assert!(matches!(read, Ok(0)) || read.is_err());
}

#[test]
fn a_connection_ends_with_what_it_leads_to() {
    let place = Place::new(false);
    let gone = place.leads(serves(|_stream| std::thread::sleep(SOON)));
    let mut stream = place.connects();
    stream.write_all(b"?").unwrap();
    gone.send_replace(true);
    let read = stream.read(&mut [0]);
    assert!(matches!(read, Ok(0)) || read.is_err());
}

#[test]
fn something_is_under_way_until_the_answer_is_over() {
    let place = Place::new(false);
    let (asked, heard) = channel();
    let _gone = place.leads(serves(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        asked.send(()).unwrap();
        stream.write_all(b"!").unwrap();
        let _ = stream.read(&mut [0]);
    }));
    let mut stream = place.connects();
    stream.write_all(b"?").unwrap();
    heard.recv_timeout(SOON).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    // The connection stays.
    let began = std::time::Instant::now();
    while place.busy.count() > 0 {
        assert!(began.elapsed() < SOON, "something is still under way");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_connection_outlives_what_answered_its_requests() {
    let place = Place::new(true);
    let gone = place.leads(answers("one"));
    let mut client = BufReader::new(place.connects());
    assert_eq!(asks(&mut client, "GET / HTTP/1.1"), (OK.to_owned(), "one".to_owned()));
    place.route.close();
    gone.send_replace(true);
    write!(client.get_mut(), "POST /waits HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n").unwrap();
    let _gone = place.leads(answers("two"));
    assert_eq!(answered(&mut client), (OK.to_owned(), "two".to_owned()));
    assert_eq!(asks(&mut client, "GET / HTTP/1.1").1, "two");
}

/// Tells of each request, and hangs up at the first one.
fn hangs_up_once() -> (SocketAddr, Receiver<String>) {
    let (asked, heard) = channel();
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let at = serves(move |stream| {
        let mut reader = BufReader::new(&stream);
        asked.send(head(&mut reader).first().cloned().unwrap_or_default()).unwrap();
        if !first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        }
    });
    (at, heard)
}

#[test]
fn what_changes_nothing_is_asked_again() {
    let place = Place::new(true);
    let (at, heard) = hangs_up_once();
    let _gone = place.leads(at);
    let mut client = BufReader::new(place.connects());
    assert_eq!(asks(&mut client, "GET /a HTTP/1.1").1, "ok");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["GET /a HTTP/1.1", "GET /a HTTP/1.1"]);
}

#[test]
fn what_may_change_something_is_asked_once() {
    let place = Place::new(true);
    let (at, heard) = hangs_up_once();
    let _gone = place.leads(at);
    let mut client = BufReader::new(place.connects());
    let (first, _) = asks(&mut client, "POST /a HTTP/1.1\r\nContent-Length: 0");
    assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
    assert_eq!(heard.try_iter().count(), 1);
    // The connection goes on.
    assert_eq!(asks(&mut client, "POST /b HTTP/1.1\r\nContent-Length: 0").1, "ok");
}

#[test]
fn who_asked_is_told_and_what_is_of_one_connection_is_not() {
    let place = Place::new(true);
    let (asked, heard) = channel();
    let _gone = place.leads(serves(move |stream| {
        asked.send(head(&mut BufReader::new(&stream))).unwrap();
        write!(
            &stream,
            "HTTP/1.1 204 No Content\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n"
        )
        .unwrap();
    }));
    let mut stream = place.connects();
    write!(
        stream,
        "GET /a?b HTTP/1.1\r\nHost: shop:80\r\nX-Forwarded-For: 10.1.1.1\r\nConnection: keep-alive, X-Own\r\n\
         X-Own: 1\r\nX-Kept: 1\r\n\r\n"
    )
    .unwrap();
    let answer = head(&mut BufReader::new(&stream)).join("\n").to_lowercase();
    assert!(answer.contains("x-end: 1") && !answer.contains("x-hop"), "{answer}");
    let mut request = heard.recv_timeout(SOON).unwrap();
    assert_eq!(request.remove(0), "GET /a?b HTTP/1.1");
    request.iter_mut().for_each(|line| line.make_ascii_lowercase());
    request.sort();
    let expected = [
        "host: shop:80",
        "x-forwarded-for: 10.1.1.1, 127.0.0.1",
        "x-forwarded-host: shop:80",
        "x-forwarded-proto: http",
        "x-kept: 1",
    ];
    assert_eq!(request, expected);
}

#[test]
fn a_connection_may_change_its_protocol() {
    let place = Place::new(true);
    let _gone = place.leads(serves(|stream| {
        let mut reader = BufReader::new(&stream);
        let request = head(&mut reader).join("\n").to_lowercase();
        assert!(request.contains("upgrade: echo") && request.contains("connection: upgrade"), "{request}");
        write!(&stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .unwrap();
        let mut word = [0; 5];
        reader.read_exact(&mut word).unwrap();
        (&stream).write_all(&word).unwrap();
    }));
    let mut client = BufReader::new(place.connects());
    let (first, _) = asks(&mut client, "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo");
    assert_eq!(first, "HTTP/1.1 101 Switching Protocols");
    client.get_mut().write_all(b"hello").unwrap();
    let mut word = String::new();
    client.read_to_string(&mut word).unwrap();
    assert_eq!(word, "hello");
}

#[test]
fn what_is_no_http_passes_as_it_is() {
    let place = Place::new(true);
    let _gone = place.leads(counts());
    assert_eq!(said(place.connects(), 5), "5");
    let mut http2 = place.connects();
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!(said(http2, 6), "30");
}

#[test]
fn each_sender_of_datagrams_gets_his_own_answers() {
    let place = Place::new(false);
    let inside = UdpSocket::bind(somewhere()).unwrap();
    let _gone = place.leads(inside.local_addr().unwrap());
    let outside = place.runtime.block_on(tokio::net::UdpSocket::bind(somewhere())).unwrap();
    let at = outside.local_addr().unwrap();
    place.runtime.spawn(datagrams::serve(Arc::new(outside), Arc::clone(&place.route)));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((read, from)) = inside.recv_from(&mut buffer) {
            inside.send_to(&[b"got ", &buffer[..read]].concat(), from).unwrap();
        }
    });
    let senders: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind(somewhere()).unwrap()).collect();
    for (index, sender) in senders.iter().enumerate() {
        sender.set_read_timeout(Some(SOON)).unwrap();
        sender.send_to(format!("{index}").as_bytes(), at).unwrap();
    }
    for (index, sender) in senders.iter().enumerate() {
        let mut buffer = [0; 64];
        let (read, _) = sender.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..read], format!("got {index}").into_bytes());
    }
}
