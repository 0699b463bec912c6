//! A run as a picture: its steps in columns, each to the right of all that it waits for.

use std::collections::BTreeMap;

use maud::{Markup, html};

/// A step in a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) parents: Vec<String>,
    /// How it looks, and how it went in words.
    pub(super) look: &'static str,
    pub(super) how: String,
    /// Where it leads.
    pub(super) address: String,
}

/// The size of a step, and the room to the next one.
const WIDTH: usize = 184;
const HEIGHT: usize = 52;
const BESIDE: usize = 48;
const BELOW: usize = 14;
/// The room around all.
const MARGIN: usize = 8;
/// How many letters there is room for.
const NAME: usize = 17;
const HOW: usize = 24;

/// Where each step stands: its column, which is how many steps come one after the other before it, and its row.
pub(super) fn places(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut depths = BTreeMap::<&str, usize>::new();
    let mut rows = BTreeMap::<usize, usize>::new();
    let mut places = Vec::with_capacity(steps.len());
    for step in steps {
        // Each comes after those that it waits for.
        let before = step.parents.iter().filter_map(|parent| depths.get(parent.as_str()));
        let depth = before.max().map_or(0, |depth| depth + 1);
        depths.insert(&step.name, depth);
        let row = rows.entry(depth).or_default();
        places.push((depth, *row));
        *row += 1;
    }
    places
}

/// The left upper corner of a place.
fn corner((column, row): (usize, usize)) -> (usize, usize) {
    (MARGIN + column * (WIDTH + BESIDE), MARGIN + row * (HEIGHT + BELOW))
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['\u{2026}']).collect()
}

/// The picture.
pub(super) fn picture(steps: &[Step]) -> Markup {
    let places = places(steps);
    let columns = places.iter().map(|(column, _)| column + 1).max().unwrap_or(0);
    let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(0);
    let (right, below) = corner((columns, rows));
    let (width, height) = (right.saturating_sub(BESIDE) + MARGIN, below.saturating_sub(BELOW) + MARGIN);
    let place_of = |name: &str| steps.iter().position(|step| step.name == name).and_then(|at| places.get(at));
    let mut lines = Vec::new();
    for (step, to) in steps.iter().zip(&places) {
        lines.extend(step.parents.iter().filter_map(|parent| place_of(parent)).map(|from| line(*from, *to)));
    }
    html! {
        div.graph tabindex="0" role="group" aria-label="The steps, from left to right" {
            svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
                @for line in lines { path d=(line) {} }
                @for (step, place) in steps.iter().zip(&places) { (boxed(step, corner(*place))) }
            }
        }
    }
}

/// The way from a step to one that waits for it.
fn line(from: (usize, usize), to: (usize, usize)) -> String {
    let ((x, y), (end, low)) = (corner(from), corner(to));
    let (x, y, low, half) = (x + WIDTH, y + HEIGHT / 2, low + HEIGHT / 2, BESIDE / 2);
    format!("M{x} {y}C{} {y} {} {low} {end} {low}", x + half, end - half)
}

fn boxed(step: &Step, (x, y): (usize, usize)) -> Markup {
    html! {
        a.(step.look) href=(step.address) aria-label={ (step.name) ": " (step.how) } {
            title { (step.name) ": " (step.how) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="8" {}
            circle cx=(x + 18) cy=(y + 20) r="5" {}
            text x=(x + 32) y=(y + 25) { (short(&step.name, NAME)) }
            text.how x=(x + 14) y=(y + 43) { (short(&step.how, HOW)) }
        }
    }
}
