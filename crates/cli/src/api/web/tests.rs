#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::json;

use setpoint_model::release::{Active, Offer};

use super::graph::{Step, places};
use super::unit::Whole;
use super::units::Seen;
use super::versions::Planned;
use super::*;
use crate::api::change::Wish;
use crate::api::drift::Drift;
use crate::api::versions::{AskedShown, OfferShown, ProjectShown, ProjectWhole};
use crate::api::wire::{ButtonShown, OperationShown, StateShown, UnitShown};
use crate::commands::history::{Change, Step as HistoryStep};

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&";

fn frame() -> Frame {
    Frame { csrf: "token".to_owned() }
}

fn seen(text: &str, state: &'static str) -> Seen {
    let text = || text.to_owned();
    let button = |does, post| ButtonShown { label: text(), does, post, unit: Some(text()) };
    let unit = UnitShown {
        id: "web-1".to_owned(),
        project: text(),
        project_id: text(),
        version: Some(text()),
        project_root: text(),
        name: text(),
        engine: text(),
        kept: true,
        wanted: Some("up"),
        generation: 1,
        state: StateShown { state, why: Some(text()), waits_for: Some(text()), ..StateShown::default() },
        drift: Some(Drift {
            out_of_date: true,
            changes: 1,
            pending: Vec::new(),
            declared: true,
            unreadable: None,
        }),
        record: None,
        created_at: text(),
        button: button("start", Some("/v1/units/web-1/start".to_owned())),
        second: Some(button("nothing", None)),
    };
    let failed = Some(units::Failed { times: 2, why: text(), at: None });
    Seen { unit, check: Some(text()), failed }
}

fn operation(text: &str) -> OperationShown {
    OperationShown {
        id: "1".to_owned(),
        unit: Some("web-1".to_owned()),
        what: text.to_owned(),
        state: "failed",
        began_at: text.to_owned(),
        ended_at: None,
        detail: Some(text.to_owned()),
    }
}

fn whole(text: &str, state: &'static str) -> Whole {
    Whole {
        seen: seen(text, state),
        changes: vec![text.to_owned()],
        operations: vec![operation(text)],
        lines: Ok([text.to_owned()].into()),
        search: text.to_owned(),
    }
}

fn change(text: &str) -> Change {
    let step =
        |kind| HistoryStep { step: text.to_owned(), kind, at: text.to_owned(), note: Some(text.to_owned()) };
    let active = || Active { version: Some(text.to_owned()), ..Active::default() };
    Change {
        number: 1,
        what: "upgrade",
        from: active(),
        to: active(),
        who: text.to_owned(),
        began_at: text.to_owned(),
        ended_at: None,
        outcome: None,
        detail: Some(text.to_owned()),
        steps: vec![step("intent"), step("failed"), step("intent")],
    }
}

fn versioned(text: &str, state: &'static str) -> ProjectShown {
    let text = || text.to_owned();
    let asked = AskedShown {
        what: "upgrade",
        began_at: text(),
        ended_at: Some(text()),
        outcome: "failed",
        detail: Some(text()),
    };
    let offers = [("Roll back...", "rollback", Some(text())), ("Cancel", "cancel", None)];
    ProjectShown {
        id: "shop-1".to_owned(),
        project: text(),
        root: text(),
        version: Some(text()),
        generation: 1,
        release: Some(text()),
        since: Some(text()),
        by: Some(text()),
        state,
        holder: Some(text()),
        unreadable: Some(text()),
        asked: Some(asked),
        change: Some(change(&text())),
        offers: offers.map(|(label, does, plan)| OfferShown { label, does, plan, post: text() }).into(),
    }
}

fn planned(text: &str, offer: Offer, answer: Result<serde_json::Value, Problem>) -> Planned {
    let wish = Wish { version: text.to_owned(), discard_writes: false };
    let others = vec![(text.to_owned(), text.to_owned()); 2];
    Planned { project: versioned(text, "settled"), offer, wish, answer, others }
}

#[test]
fn what_would_be_lost_is_on_the_button_and_nowhere_else() {
    let page = |offer, answer| versions::would(&frame(), &planned("1.0.0", offer, Ok(answer))).into_string();
    let to = json!({ "generation": 3, "version": "1.0.0", "volumes": {} });
    let loses = page(Offer::RollBack, json!({ "words": "words", "to": to, "lane": "breaking" }));
    assert!(loses.contains("Go back to 1.0.0, and lose these writes"), "{loses}");
    assert!(loses.contains("name=\"discard_writes\" value=\"true\""), "{loses}");
    // What takes migrations back keeps what was written since.
    let taken_back = json!([{ "id": "1.1.0/1-a" }]);
    for (offer, lane, downs) in [
        (Offer::RollBack, "compatible", json!([])),
        (Offer::Upgrade, "breaking", json!([])),
        (Offer::RollBack, "breaking", taken_back),
    ] {
        let keeps = page(offer, json!({ "words": "words", "to": to, "lane": lane, "downs": downs }));
        assert!(!keeps.contains("lose") && !keeps.contains("discard_writes"), "{keeps}");
    }
    let nothing = page(Offer::Upgrade, json!({ "changed": false }));
    assert!(nothing.contains("nothing to do") && !nothing.contains("<form"), "{nothing}");
}

#[test]
fn what_units_and_their_lines_say_stays_text() {
    let names = [("web-1".to_owned(), HOSTILE.to_owned())];
    let event =
        json!({ "type": "deed", "at": HOSTILE, "project": HOSTILE, "name": HOSTILE, "what": HOSTILE });
    let mut unreadable = seen(HOSTILE, "waiting_on");
    unreadable.unit.drift.as_mut().unwrap().unreadable = Some(HOSTILE.to_owned());
    unreadable.unit.drift.as_mut().unwrap().out_of_date = false;
    let step = Step {
        name: HOSTILE.to_owned(),
        parents: Vec::new(),
        look: "good",
        how: HOSTILE.to_owned(),
        address: HOSTILE.to_owned(),
    };
    let pages = [
        units::content(&frame(), &[seen(HOSTILE, "held"), unreadable]),
        unit::content(&frame(), &whole(HOSTILE, "held")),
        unit::content(&frame(), &whole(HOSTILE, "running")),
        operations::content(&[operation(HOSTILE)], &names, &[event]),
        graph::picture(&[step]),
        runs::content(&[], &[HOSTILE.to_owned()]),
        versions::content(&frame(), &[versioned(HOSTILE, "settled"), versioned(HOSTILE, "under_way")]),
        versions::project(
            &frame(),
            &ProjectWhole {
                setpoint: 1,
                project: versioned(HOSTILE, "under_way"),
                changes: vec![change(HOSTILE)],
            },
            Some(&change(HOSTILE)),
        ),
        versions::would(
            &frame(),
            &planned(
                HOSTILE,
                Offer::RollBack,
                Ok(json!({ "words": HOSTILE, "to": { "generation": 1, "version": HOSTILE } })),
            ),
        ),
        versions::would(
            &frame(),
            &planned(
                HOSTILE,
                Offer::Upgrade,
                Err(Problem::new(StatusCode::CONFLICT, "plan", HOSTILE).hint(HOSTILE)),
            ),
        ),
    ];
    for page in pages {
        let page = page.into_string();
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("\"\">"), "{page}");
    }
}

#[test]
fn a_page_has_nothing_inline_and_asks_for_nothing_elsewhere() {
    let body = unit::content(&frame(), &whole("x", "running")).into_string();
    assert!(!body.contains("style=") && !body.contains(" on=") && !body.contains("javascript:"), "{body}");
    let response = page("x", "/", &html! {});
    assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
    assert!(POLICY.contains("script-src 'self';") && !POLICY.contains("unsafe"));
    for text in [include_str!("page.css"), include_str!("page.js")] {
        assert!(!text.contains("http") && !text.contains("innerHTML"), "{text}");
    }
}

#[test]
fn a_button_is_a_form_with_the_token_or_leads_somewhere_or_only_tells() {
    let list = units::content(&frame(), &[seen("x", "stopped")]).into_string();
    assert!(list.contains("<form method=\"post\" action=\"/units/web-1/start\">"), "{list}");
    assert!(list.contains("<input type=\"hidden\" name=\"csrf\" value=\"token\">"), "{list}");
    assert!(list.contains("disabled>x</button>"), "{list}");
    let mut leads = seen("x", "held");
    leads.unit.button = ButtonShown { label: "why".to_owned(), does: "explain", post: None, unit: None };
    let list = units::content(&frame(), &[leads]).into_string();
    assert!(list.contains("href=\"/units/web-1#why\""), "{list}");
    let held = unit::content(&frame(), &whole("x", "held")).into_string();
    assert!(held.contains("action=\"/units/web-1/retry\""), "{held}");
}

#[test]
fn where_there_is_nothing_it_says_what_to_type() {
    assert!(units::content(&frame(), &[]).into_string().contains("setpoint init"));
    assert!(runs::content(&[], &[]).into_string().contains("setpoint run"));
    assert!(versions::content(&frame(), &[]).into_string().contains("setpoint up"));
}

#[test]
fn a_form_carries_its_token_in_its_body() {
    let token = |body: &'static str, form: &'static str| {
        let request = Request::post("/units/web-1/stop").header(header::CONTENT_TYPE, form);
        let mut request = request.body(Body::from(body)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            take_token(&mut request).await;
            let token = request.headers().get(CSRF).map(|token| token.to_str().unwrap().to_owned());
            (token, to_bytes(request.into_body(), FORM).await.unwrap())
        })
    };
    let form = "application/x-www-form-urlencoded";
    let (found, body) = token("csrf=abc&on=list", form);
    assert_eq!((found.as_deref(), &body[..]), (Some("abc"), &b"csrf=abc&on=list"[..]));
    assert_eq!(token("on=list&xcsrf=abc", form).0, None);
    assert_eq!(token("csrf=abc", "text/plain").0, None);
}

#[test]
fn a_step_stands_to_the_right_of_all_that_it_waits_for() {
    let step = |name: &str, parents: &[&str]| Step {
        name: name.to_owned(),
        parents: parents.iter().map(|&parent| parent.to_owned()).collect(),
        look: "good",
        how: String::new(),
        address: String::new(),
    };
    let steps =
        [step("a", &[]), step("b", &[]), step("c", &["a"]), step("d", &["b", "c"]), step("e", &["a"])];
    assert_eq!(places(&steps), [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1)]);
    assert_eq!(graph::picture(&steps).into_string().matches("<path").count(), 4);
}
