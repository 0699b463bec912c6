//! The JSON Schema of a file, made from the shapes of its sections.

use schemars::JsonSchema;
use serde_json::Value as Json;

use super::shape::ManifestFile;

/// The JSON Schema (draft 2020-12) of `setpoint.toml`, for editors. It is checked in as
/// `docs/reference/manifest.schema.json`.
#[must_use]
pub fn json_schema() -> Json {
    of::<ManifestFile>()
}

/// The schema of a file of this shape.
pub(crate) fn of<T: JsonSchema>() -> Json {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema
}

/// Takes the null out that an optional key brings: there is none in TOML.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(without_null),
        Json::Object(object) => {
            if let Some(Json::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Json::Array(several)) = object.get_mut("anyOf") {
                several.retain(|one| one.get("type").is_none_or(|name| name != "null"));
                if let [Json::Object(one)] = several.as_slice() {
                    let one = one.clone();
                    object.remove("anyOf");
                    for (key, value) in one {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
