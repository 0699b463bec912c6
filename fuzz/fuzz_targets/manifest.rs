//! Any text is a manifest or has problems; none makes the parser panic. What parses, parses again alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpoint_model::manifest::{Layer, parse, set_layer};

fuzz_target!(|text: &str| {
    let (base, over) = text.split_once("\n#---\n").unwrap_or((text, ""));
    let layers = [Layer { name: "setpoint.toml", text: base }, Layer { name: "setpoint.local.toml", text: over }];
    match parse(&layers, "project") {
        Ok(manifest) => assert_eq!(parse(&layers, "project").as_ref(), Ok(&manifest)),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.to_string().is_empty());
            }
        }
    }
    let _ = set_layer(text);
});
