//! A tool's input schema as a broker keeps it: `type`, `properties` and `required`, and nothing beside them.
//!
//! References would point at what is lost, so what they mean is put in their place; what all of `allOf` ask
//! is put together. One that refers to itself ends in an object of any kind.

use serde_json::{Map, Value, json};

/// References within references that are followed; beyond it anything goes.
const DEPTH_MAX: usize = 8;
/// Values that are copied at most, so that references that double at each step end.
const VALUES_MAX: usize = 2_000;

/// The reduced schema. `None`: it is larger than a robot's model could use.
pub(super) fn reduced(schema: &Value) -> Option<Value> {
    let mut inliner = Inliner { root: schema, values: 0 };
    let whole = inliner.inlined(schema, 0)?;
    let (mut properties, mut required) = (Map::new(), Vec::new());
    gather(&whole, &mut properties, &mut required);
    let mut reduced = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        reduced["required"] = required.into();
    }
    Some(reduced)
}

/// What a schema, and each of those that must hold with it, says of an object.
fn gather(schema: &Value, properties: &mut Map<String, Value>, required: &mut Vec<Value>) {
    if let Some(own) = schema.get("properties").and_then(Value::as_object) {
        for (name, value) in own {
            properties.entry(name).or_insert_with(|| value.clone());
        }
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if name.is_string() && !required.contains(name) {
            required.push(name.clone());
        }
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        gather(part, properties, required);
    }
}

struct Inliner<'a> {
    root: &'a Value,
    values: usize,
}

impl Inliner<'_> {
    /// `value` with what its references mean in their places.
    fn inlined(&mut self, value: &Value, depth: usize) -> Option<Value> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return None;
        }
        Some(match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    return self.referred(reference, members, depth);
                }
                let mut inlined = Map::new();
                for (name, member) in members {
                    if !matches!(name.as_str(), "$defs" | "definitions" | "$schema" | "$id" | "$comment") {
                        inlined.insert(name.clone(), self.inlined(member, depth)?);
                    }
                }
                Value::Object(inlined)
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.inlined(item, depth)).collect::<Option<_>>()?)
            }
            other => other.clone(),
        })
    }

    /// What a reference means, under what stands beside it.
    fn referred(&mut self, reference: &str, beside: &Map<String, Value>, depth: usize) -> Option<Value> {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let mut meant = match target {
            Some(target) if depth < DEPTH_MAX => self.inlined(target, depth + 1)?,
            // What lies elsewhere isn't fetched, and what has no end is cut.
            _ => json!({ "type": "object" }),
        };
        if let Value::Object(meant) = &mut meant {
            for (name, member) in beside.iter().filter(|(name, _)| *name != "$ref") {
                meant.insert(name.clone(), self.inlined(member, depth)?);
            }
        }
        Some(meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_put_in_their_places() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "where": {"$ref": "#/$defs/place", "description": "where to"},
                "all": {"type": "array", "items": {"$ref": "#/$defs/place"}},
            },
            "required": ["where"],
            "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}}},
        });
        let place = json!({"type": "object", "properties": {"x": {"type": "number"}}});
        let mut described = place.clone();
        described["description"] = "where to".into();
        assert_eq!(
            reduced(&schema).unwrap(),
            json!({
                "type": "object",
                "properties": {"where": described, "all": {"type": "array", "items": place}},
                "required": ["where"],
            })
        );
    }

    #[test]
    fn what_all_must_hold_is_put_together() {
        let schema = json!({
            "allOf": [
                {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"$ref": "#/definitions/b"},
            ],
            "properties": {"c": {}},
            "definitions": {"b": {"properties": {"b": {"type": "integer"}}, "required": ["b", "a"]}},
        });
        let found = reduced(&schema).unwrap();
        assert_eq!(found["required"], json!(["a", "b"]));
        let names: Vec<&String> = found["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn one_that_refers_to_itself_or_elsewhere_has_an_end() {
        let schema = json!({
            "properties": {"tree": {"$ref": "#/$defs/node"}, "far": {"$ref": "https://example.com/x"}},
            "$defs": {"node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}},
        });
        let found = reduced(&schema).unwrap();
        assert!(!found.to_string().contains("$ref"));
        assert_eq!(found["properties"]["far"], json!({"type": "object"}));
    }

    #[test]
    fn one_that_doubles_at_each_step_is_given_up() {
        let mut defs = Map::new();
        for step in 0..8 {
            let next = json!({"$ref": format!("#/$defs/d{}", step + 1)});
            let twice: Map<String, Value> = (0..8).map(|place| (format!("p{place}"), next.clone())).collect();
            defs.insert(format!("d{step}"), json!({"properties": twice}));
        }
        assert!(reduced(&json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs})).is_none());
        assert_eq!(reduced(&json!({"type": "object"})).unwrap(), json!({"type": "object", "properties": {}}));
    }
}
