//! Archives at an address of the web.

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Url};
use setpoint_model::names::is_loopback;

use super::fetch::{FetchError, MOST, PATIENCE};
use crate::image::deepest;

/// How often an address may lead to another one.
const MOST_REDIRECTS: usize = 5;

/// What is at an address now.
pub(super) async fn archive(url: &str) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Unreachable(deepest(&error));
    let url: Url = url.parse().map_err(|error| FetchError::Unreachable(format!("{error}")))?;
    let mut client = Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .user_agent(concat!("setpoint/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .redirect(Policy::custom(follow));
    if is_here(&url) {
        // A proxy would look on its own machine.
        client = client.no_proxy();
    }
    let client = client.build().map_err(failed)?;
    let mut answer = client.get(url).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(FetchError::Answer(answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MOST {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(bytes)
}

/// Whether an address is on this machine.
fn is_here(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

/// Goes where an address leads, as long as that is safe: plain HTTP, and servers of this machine, are for those who
/// began on this machine.
fn follow(attempt: Attempt<'_>) -> Action {
    let began_here = attempt.previous().first().is_some_and(is_here);
    let next = attempt.url();
    let is_safe = if is_here(next) { began_here } else { next.scheme() == "https" };
    if !is_safe {
        let where_to = format!("it leads to {next}, which is not safe");
        return attempt.error(where_to);
    }
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error(format!("it leads on more than {MOST_REDIRECTS} times"));
    }
    attempt.follow()
}
