//! Writes a compose file: every text double-quoted, so that no version of YAML reads it as something else, and every `$` doubled,
//! so that Compose puts nothing in its place. The one place where text is escaped; it takes plain text only.

use serde_json::Value;

/// The text of a compose file.
pub fn compose_text(project: &Value) -> String {
    let mut text = String::new();
    write(project, 0, &mut text);
    text.push('\n');
    text
}

/// The same in braces, on one line: where its end is missing it is no document at all, and nothing is created from half of it.
pub fn compose_line(project: &Value) -> String {
    let mut text = String::new();
    flow(project, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 || depth > 0 {
                    new_line(depth, text);
                }
                text.push_str(&key_text(key));
                text.push(':');
                if !nested(value) {
                    text.push(' ');
                }
                write(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                new_line(depth, text);
                text.push_str("- ");
                // One flow line an item: shorter to read than a block, and no rule of indentation to get wrong.
                flow(item, text);
            }
        }
        other => flow(other, text),
    }
}

fn nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn flow(value: &Value, text: &mut String) {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(map) => {
            let parts = map.iter().map(|(key, value)| {
                let mut part = format!("{}: ", key_text(key));
                flow(value, &mut part);
                part
            });
            text.push_str(&format!("{{{}}}", join(parts.collect())));
        }
        Value::Array(items) => {
            let parts = items.iter().map(|item| {
                let mut part = String::new();
                flow(item, &mut part);
                part
            });
            text.push_str(&format!("[{}]", join(parts.collect())));
        }
        Value::String(string) => text.push_str(&quoted(&string.replace('$', "$$"))),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

/// Compose puts nothing into keys, so `$` stays there as it is.
fn key_text(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    let word = !matches!(
        key.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
    );
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && word && key.chars().all(plain) { key.to_owned() } else { quoted(key) }
}

/// JSON's quoting is YAML's double quoting, but for a few characters that JSON leaves bare.
fn quoted(string: &str) -> String {
    let mut text = Value::from(string).to_string();
    for bare in ['\u{7f}', '\u{85}', '\u{a0}', '\u{2028}', '\u{2029}', '\u{feff}'] {
        if text.contains(bare) {
            text = text.replace(bare, &format!("\\u{:04x}", u32::from(bare)));
        }
    }
    text
}

fn new_line(depth: usize, text: &mut String) {
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let plain = json!({
            "services": {"no": {"image": "x", "command": ["a: b", "#c", "", "ü\u{2028}\u{1b}"], "init": true, "n": 3, "empty": {}, "none": []}},
            "0755": "0755", "list": [{"a": [1, "no"], "b": {}}, []],
        });
        for text in [compose_text(&plain), compose_line(&plain)] {
            let back: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            assert_eq!(back, std::slice::from_ref(&plain), "{text}");
        }
    }

    #[test]
    fn a_line_that_was_cut_short_is_no_document() {
        let line = compose_line(&json!({"services": {"a": {"image": "x", "labels": {"b": "c"}}}, "volumes": {}}));
        for length in 1..line.trim_end().len() {
            assert!(serde_saphyr::from_str::<Value>(&line[..length]).is_err(), "{}", &line[..length]);
        }
    }

    #[test]
    fn dollars_are_escaped_in_values_and_not_in_keys() {
        assert_eq!(compose_text(&json!({"a$b": "c$d"})), "\"a$b\": \"c$$d\"\n");
    }
}
