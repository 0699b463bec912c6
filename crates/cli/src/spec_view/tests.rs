//! What a report says, and that nothing of a test's own words gets into its page as anything else.

use std::collections::BTreeMap;

use setpoint_model::manifest::Layer;
use setpoint_model::spec::{Known, Outcome, Reference, judge, parse};

use super::*;

const CART: &str = r#"
id = "cart"
title = "The <cart>"
intent = "Nobody pays for what is not in it."
[criterion.1]
text = "The sum is right."
tests = ["go:x/cart:TestSum"]
[criterion.2]
text = "It is | `Empty` at first."
tests = ["go:x/cart:TestEmpty"]
[criterion.3]
text = "Refunds are paid."
gap = "later"
"#;

fn with_sheet(check: impl FnOnce(&Sheet<'_>)) {
    let specs = parse(&[Layer { name: "specs/cart.toml", text: CART }]).unwrap();
    let test = |name: &str| Reference::try_from(format!("go:x/cart:{name}")).unwrap();
    let failed = Outcome::Failed("<script>alert(1)</script>\n1 is | not 2".to_owned());
    let outcomes = BTreeMap::from([(test("TestSum"), Outcome::Passed), (test("TestEmpty"), failed)]);
    let known = Known { outcomes, ..Known::default() };
    let verdicts: Vec<_> =
        specs[0].criteria.iter().map(|criterion| (criterion, judge(criterion, &known))).collect();
    check(&Sheet::new(&specs, &verdicts));
}

#[test]
fn a_page_tells_all_and_takes_words_for_words() {
    with_sheet(|sheet| {
        let page = html::page(sheet);
        for words in [
            "The &lt;cart&gt;",
            "cart.1",
            "<b>1</b> failed",
            "later",
            "&lt;script&gt;alert(1)",
            "go:x/cart:TestSum",
        ] {
            assert!(page.contains(words), "{words}\n{page}");
        }
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page, html::page(sheet));
    });
}

#[test]
fn a_page_of_markdown_is_a_table_for_each_spec() {
    with_sheet(|sheet| {
        let page = markdown::page(sheet);
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| cart.")).collect();
        assert_eq!(
            rows,
            [
                "| cart.1 | passed | The sum is right. | `go:x/cart:TestSum` |",
                "| cart.2 | failed | It is \\| `Empty` at first. | `go:x/cart:TestEmpty` &lt;script>alert(1)&lt;/script> |",
                "| cart.3 | gap | Refunds are paid. | later |",
            ]
        );
        assert!(page.starts_with("# Specs\n\n1 passed, 1 failed, 1 gap of 3 criteria.\n"), "{page}");
    });
}

#[test]
fn json_tells_each_criterion_with_its_causes() {
    with_sheet(|sheet| {
        let json = serde_json::to_value(sheet.to_json(Some(2), Some(0))).unwrap();
        assert_eq!((&json["failed"], &json["gaps"], &json["ran"]), (&1.into(), &1.into(), &2.into()));
        let criterion = &json["specs"][0]["criteria"][1];
        assert_eq!(criterion["state"], "failed");
        assert_eq!(criterion["causes"][0]["test"], "go:x/cart:TestEmpty");
    });
}
