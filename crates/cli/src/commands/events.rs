use clap::Args;
use serde_json::Value;

use super::SUCCESS;
use crate::api::client::Client;
use crate::api::drift_words;
use crate::context::Context;
use crate::error::Failure;
use crate::run_view::text::bare;

/// Show what a daemon did, and what it waits for
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on with what will happen, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let output = context.output;
        let client = Client::new(&context.roots)?;
        if self.follow {
            client.follow("/v1/events?after=0", |data| {
                let event = serde_json::from_str::<Value>(data).unwrap_or_default();
                output.line(if output.json { event.to_string() } else { words(&event) });
            })?;
            return Ok(SUCCESS);
        }
        let happened = client.ask("GET", "/v1/events?follow=false")?;
        if output.json {
            output.value(&happened);
            return Ok(SUCCESS);
        }
        let events = happened["events"].as_array().into_iter().flatten();
        events.for_each(|event| output.line(words(event)));
        Ok(SUCCESS)
    }
}

/// `2026-01-01T00:00:00Z  shop/web  stopping`
fn words(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let what = match text("type") {
        "state" => state(&event["state"]),
        "drift" => drift_words(&event["drift"]),
        "operation" => format!("operation {} {}", text("operation"), text("outcome")),
        "version" => format!("{} {}", text("what"), text("outcome")),
        "left" => "is not kept any more".to_owned(),
        "gap" => "what happened before this is not kept any more".to_owned(),
        _ => text("what").to_owned(),
    };
    let at = text("at").split('.').next().unwrap_or_default().trim_end_matches('Z');
    let name = event["name"].as_str().map_or_else(String::new, |name| format!("/{name}"));
    bare(&format!("{at}Z  {}{name}  {what}", text("project")))
}

fn state(state: &Value) -> String {
    let word = state["state"].as_str().unwrap_or_default().replace('_', "-");
    let details = ["health", "by", "waits_for", "why"].iter().filter_map(|key| state[*key].as_str());
    let code = state["code"].as_i64().map(|code| format!("exit {code}"));
    let attempt = state["attempt"].as_u64().map(|attempt| format!("try {attempt}"));
    let details: Vec<String> =
        details.map(|detail| detail.replace('_', " ")).chain(code).chain(attempt).collect();
    if details.is_empty() { word } else { format!("{word} ({})", details.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let of = |more: Value| {
            let mut event = json!({ "at": "2026-01-02T03:04:05.678Z", "project": "shop", "name": "web" });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            words(&event)
        };
        let begin = "2026-01-02T03:04:05Z  shop/web  ";
        let state = json!({ "type": "state", "state": { "state": "back_off", "attempt": 2 } });
        assert_eq!(of(state), format!("{begin}back-off (try 2)"));
        let ended = json!({ "type": "state", "state": { "state": "stopped", "by": "exit", "code": 3 } });
        assert_eq!(of(ended), format!("{begin}stopped (exit, exit 3)"));
        let deed = json!({ "type": "deed", "what": "start (it ended)\u{1b}[31m" });
        assert_eq!(of(deed), format!("{begin}start (it ended)"));
        let drift =
            json!({ "type": "drift", "drift": { "declared": true, "out_of_date": true, "changes": 2 } });
        assert_eq!(of(drift), format!("{begin}is out of date: 2 changes"));
        let operation = json!({ "type": "operation", "operation": "ab", "outcome": "failed" });
        assert_eq!(of(operation), format!("{begin}operation ab failed"));
    }
}
