//! Who may come in from a loopback address: who has the token of the state, or a session that began with a one-time
//! link. A page of somebody else's, or a name that leads here, gets nothing.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use setpoint_runtime::paths::Roots;
use subtle::ConstantTimeEq as _;

use super::problem::Problem;

/// The file of the token.
const TOKEN: &str = "api.token";
/// How long a link leads in.
pub(super) const LINK: Duration = Duration::from_secs(60);
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// How many links there are at most; the oldest goes first.
const KEPT: usize = 32;
/// The cookie of a session.
pub(super) const COOKIE: &str = "setpoint_session";
/// The header that a page sends with what changes something.
pub(super) const CSRF: &str = "x-csrf-token";

/// A link that leads in once.
struct Link {
    secret: String,
    until: Instant,
    used: bool,
}

/// A browser that came in by a link. Nothing is kept of it: its cookie says until when it lasts, signed with the token of
/// the state, so that a page goes on when another daemon takes over.
pub(super) struct Session {
    pub(super) cookie: String,
    pub(super) csrf: String,
}

/// The door of a loopback address.
pub(crate) struct Door {
    pub(super) address: SocketAddr,
    token: String,
    links: Mutex<Vec<Link>>,
}

/// 256 random bits, as hexadecimal digits.
pub(super) fn secret() -> std::io::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Where the token of a state lies.
pub(crate) fn token_file(roots: &Roots) -> PathBuf {
    roots.state.join(TOKEN)
}

/// The token of a state, made if there is none.
fn token(path: &Path) -> std::io::Result<String> {
    let made = secret()?;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(format!("{made}\n").as_bytes())?;
            return Ok(made);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(1024).read_to_string(&mut text)?;
    let token = text.trim().to_owned();
    if token.len() < made.len() {
        return Err(std::io::Error::other("it holds no token; remove it, and a new one is made"));
    }
    Ok(token)
}

impl Door {
    pub(crate) fn new(roots: &Roots, address: SocketAddr) -> std::io::Result<Self> {
        let token = token(&token_file(roots))?;
        Ok(Self { address, token, links: Mutex::default() })
    }

    /// Says whether a request may come in.
    pub(super) fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        self.is_meant(headers)?;
        if matches!(path, "/open" | "/healthz" | "/page.css") && *method == Method::GET {
            return Ok(());
        }
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(given) = text(header::AUTHORIZATION) {
            let given = given.strip_prefix("Bearer ").unwrap_or_default();
            return if same(given.trim(), &self.token) { Ok(()) } else { Err(wrong_token()) };
        }
        let Some(session) = self.session(headers)? else { return Err(no_token()) };
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        let csrf = headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if changes && !same(csrf, &session.csrf) {
            let message = "what changes something needs the header `X-CSRF-Token` of the session";
            return Err(Problem::new(StatusCode::FORBIDDEN, "csrf", message)
                .hint("GET /v1/session says what it is; reload the page"));
        }
        Ok(())
    }

    /// Whether a request was meant for this address, by a page of this address.
    fn is_meant(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let port = self.address.port();
        let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("{host}:{port}"));
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text("host").unwrap_or_default().to_ascii_lowercase();
        if !hosts.contains(&host) {
            let message = format!("nothing here is called `{host}`");
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", message)
                .hint(format!("ask for http://127.0.0.1:{port}")));
        }
        let origin = text("origin");
        let ours = |origin: &str| {
            origin.strip_prefix("http://").is_some_and(|host| hosts.iter().any(|ours| ours == host))
        };
        let foreign = text("sec-fetch-site").is_some_and(|site| matches!(site, "cross-site" | "same-site"));
        let opens = text("sec-fetch-mode") == Some("navigate");
        if origin.is_some_and(|origin| !ours(origin)) || (foreign && !opens) {
            let message = "a page of another address may ask for nothing here";
            return Err(Problem::new(StatusCode::FORBIDDEN, "origin", message)
                .hint("open the page by `setpoint open`"));
        }
        Ok(())
    }

    /// The session that a request carries; nothing if it carries none.
    pub(super) fn session(&self, headers: &HeaderMap) -> Result<Option<Session>, Problem> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let given = cookies
            .flat_map(|cookies| cookies.split(';'))
            .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        let Some(given) = given else { return Ok(None) };
        let (said, sign) = given.rsplit_once('.').unwrap_or_default();
        let until = said.split_once('.').and_then(|(until, _)| until.parse().ok());
        let lasts = until.is_some_and(|until: i64| until > Timestamp::now().as_second());
        if !lasts || !same(sign, &self.sign("session", said)) {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "session", "this session is over")
                .hint("`setpoint open` begins a new one"));
        }
        Ok(Some(self.session_of(said)))
    }

    fn session_of(&self, said: &str) -> Session {
        let cookie = format!("{said}.{}", self.sign("session", said));
        Session { cookie, csrf: self.sign("csrf", said) }
    }

    /// What only who has the token of the state can say of this.
    fn sign(&self, purpose: &str, said: &str) -> String {
        let key = blake3::derive_key("setpoint 2026 sessions of the API", self.token.as_bytes());
        blake3::keyed_hash(&key, format!("{purpose} {said}").as_bytes()).to_hex().to_string()
    }

    /// Makes a link that leads in once.
    pub(super) fn link(&self) -> std::io::Result<String> {
        let secret = secret()?;
        let mut links = lock(&self.links);
        // Those that are over are kept for a while, to be told apart from wrong ones.
        if links.len() == KEPT {
            links.remove(0);
        }
        links.push(Link { secret: secret.clone(), until: Instant::now() + LINK, used: false });
        Ok(format!("http://{}/open?link={secret}", self.address))
    }

    /// Lets a browser in by a link.
    pub(super) fn enter(&self, given: &str) -> Result<Session, Problem> {
        let refused = |error, message| {
            Problem::new(StatusCode::FORBIDDEN, error, message).hint("`setpoint open` makes a new link")
        };
        let mut links = lock(&self.links);
        let link = links.iter_mut().find(|link| same(&link.secret, given));
        let link = link.ok_or_else(|| refused("link-wrong", "this link is not one of this daemon's"))?;
        if link.used {
            return Err(refused("link-used", "this link was used already"));
        }
        if link.until < Instant::now() {
            return Err(refused("link-late", "this link has led in for a minute, and does not any more"));
        }
        link.used = true;
        drop(links);
        let random = |_| Problem::internal("there is no randomness");
        let until = Timestamp::now().as_second().saturating_add(SESSION.as_secs().cast_signed());
        Ok(self.session_of(&format!("{until}.{}", secret().map_err(random)?)))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "token-missing", "this address needs a token").hint(format!(
        "send `Authorization: Bearer` with what is in the file `{TOKEN}` of the state, or use `setpoint open`"
    ))
}

fn wrong_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "token-wrong", "this is not the token of this state")
        .hint(format!("it is in the file `{TOKEN}` of the state; `setpoint daemon status` says where"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn door() -> Door {
        let address = "127.0.0.1:7070".parse().unwrap();
        let token = "t".repeat(64);
        Door { address, token, links: Mutex::default() }
    }

    fn ask(door: &Door, method: Method, path: &str, headers: &[(&'static str, &str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_str(value).unwrap())
        });
        let answer = door.admit(&method, path, &headers.collect());
        answer.map_or_else(
            |problem| serde_json::to_value(problem).unwrap()["error"].as_str().unwrap().to_owned(),
            |()| "ok".to_owned(),
        )
    }

    #[test]
    fn only_who_has_the_token_and_means_this_address_comes_in() {
        let door = door();
        let good = format!("Bearer {}", door.token);
        let host = ("host", "127.0.0.1:7070");
        let token = ("authorization", good.as_str());
        let get = |headers: &[(&'static str, &str)]| ask(&door, Method::GET, "/v1/units", headers);
        assert_eq!(get(&[host, token]), "ok");
        assert_eq!(get(&[("host", "localhost:7070"), token]), "ok");
        assert_eq!(get(&[host]), "token-missing");
        assert_eq!(get(&[host, ("authorization", "Bearer x")]), "token-wrong");
        assert_eq!(get(&[host, ("authorization", &door.token)]), "token-wrong");
        assert_eq!(get(&[("host", "evil.example:7070"), token]), "host");
        assert_eq!(get(&[("host", "127.0.0.1"), token]), "host");
        assert_eq!(get(&[token]), "host");
        assert_eq!(get(&[host, token, ("origin", "http://evil.example")]), "origin");
        assert_eq!(get(&[host, token, ("origin", "null")]), "origin");
        assert_eq!(get(&[host, token, ("origin", "http://127.0.0.1:7070")]), "ok");
        assert_eq!(get(&[host, token, ("sec-fetch-site", "cross-site")]), "origin");
        assert_eq!(ask(&door, Method::GET, "/healthz", &[host]), "ok");
        assert_eq!(ask(&door, Method::GET, "/healthz", &[("host", "evil.example")]), "host");
    }

    #[test]
    fn a_link_leads_in_once_and_a_session_changes_nothing_without_its_token() {
        let door = door();
        let host = ("host", "127.0.0.1:7070");
        let link = door.link().unwrap();
        let secret = link.split_once("link=").unwrap().1.to_owned();
        assert!(door.enter("nonsense").is_err());
        let session = door.enter(&secret).unwrap();
        assert!(door.enter(&secret).is_err(), "a second time");
        let cookie = format!("other=1; {COOKIE}={}", session.cookie);
        let cookie = ("cookie", cookie.as_str());
        let path = "/v1/units/web-1/stop";
        assert_eq!(ask(&door, Method::GET, "/v1/units", &[host, cookie]), "ok");
        assert_eq!(ask(&door, Method::POST, path, &[host, cookie]), "csrf");
        assert_eq!(ask(&door, Method::POST, path, &[host, cookie, ("x-csrf-token", "x")]), "csrf");
        assert_eq!(ask(&door, Method::POST, path, &[host, cookie, ("x-csrf-token", &session.csrf)]), "ok");
        let stranger = format!("{COOKIE}=x");
        assert_eq!(ask(&door, Method::GET, "/v1/units", &[host, ("cookie", &stranger)]), "session");
        // It lasts as long as was signed, wherever the token is the same.
        let (until, rest) = session.cookie.split_once('.').unwrap();
        let longer = format!("{COOKIE}={}.{rest}", until.parse::<i64>().unwrap() + 1);
        assert_eq!(ask(&door, Method::GET, "/v1/units", &[host, ("cookie", &longer)]), "session");
        let past = format!("{COOKIE}={}", door.session_of("1.nonce").cookie);
        assert_eq!(ask(&door, Method::GET, "/v1/units", &[host, ("cookie", &past)]), "session");
        assert_eq!(ask(&self::door(), Method::GET, "/v1/units", &[host, cookie]), "ok");
        let other = Door { token: "u".repeat(64), ..self::door() };
        assert_eq!(ask(&other, Method::GET, "/v1/units", &[host, cookie]), "session");
    }
}
