//! What looks like a credential, and must therefore be sealed; and what no file may hide in a command.
//!
//! Wrong in one direction costs little: a harmless value that is sealed is merely not shown. So names decide
//! first, and values by the marks of well-known issuers or by looking random.

use serde_json::Value;

/// Words that make a name one of a credential.
const WORDS: [&str; 23] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "connectionstring",
    "cookie",
    "credential",
    "credentials",
    "dsn",
    "jwt",
    "key",
    "keys",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "private",
    "pwd",
    "secret",
    "secrets",
    "signature",
    "token",
];

/// Last words that turn such a name into that of something else.
const HARMLESS_ENDS: [&str; 16] = [
    "dir",
    "directory",
    "endpoint",
    "file",
    "host",
    "id",
    "length",
    "limit",
    "max",
    "mode",
    "name",
    "path",
    "port",
    "timeout",
    "ttl",
    "type",
];

/// How the secrets of well-known issuers begin.
const PREFIXES: [&str; 30] = [
    "AIza",
    "AKIA",
    "ASIA",
    "Basic ",
    "Bearer ",
    "SG.",
    "dop_v1_",
    "eyJ",
    "figd_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "gsk_",
    "hf_",
    "lin_api_",
    "mpg_",
    "ntn_",
    "npm_",
    "pypi-",
    "secret_",
    "sk-",
    "sk_",
    "sq0",
    "tvly-",
    "xapp-",
    "xox",
    "rk_",
];

/// Texts shorter than this are no random keys.
const RANDOM_CHARS_MIN: usize = 24;

/// Whether what has this name is a credential.
pub(crate) fn is_named(name: &str) -> bool {
    let words = words(name);
    let harmless = words.last().is_some_and(|word| HARMLESS_ENDS.contains(&word.as_str()));
    !harmless && words.iter().any(|word| WORDS.contains(&word.as_str()))
}

/// Whether this value looks like one, whatever its name.
pub(crate) fn is_valued(value: &str) -> bool {
    let marked = PREFIXES.iter().any(|prefix| value.len() > prefix.len() + 4 && value.starts_with(prefix));
    marked || has_password(value) || is_random(value) || is_in_document(value)
}

/// Whether a named value is to be sealed.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    !value.is_empty() && (is_named(name) || is_valued(value))
}

/// Which of these arguments are to be sealed.
pub(crate) fn secret_args<'a>(args: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let mut after_flag = false;
    args.map(|arg| {
        let flag = arg.starts_with('-');
        let secret = (after_flag && !flag && !arg.is_empty()) || holds(arg);
        after_flag = flag && !arg.contains('=') && is_named(arg);
        secret
    })
    .collect()
}

/// Names before a value: `--env=TOKEN=value` has two.
const NAMES_MAX: usize = 3;

/// Whether there is one in an argument: alone, as the value of a name (`--token=value`; `TOKEN=value`, as a
/// container is given its environment; `--env=TOKEN=value`), in a header or among the parameters of an address.
fn holds(arg: &str) -> bool {
    let mut value = arg;
    for _ in 0..=NAMES_MAX {
        if is_valued(value) || is_header(value) || is_in_query(value) {
            return true;
        }
        match value.split_once('=') {
            Some((name, _)) if !is_name(name) => return false,
            Some((name, after)) if !is_secret(name, after) => value = after,
            Some(_) => return true,
            None => return false,
        }
    }
    false
}

/// Whether a parameter of this address is one.
fn is_in_query(value: &str) -> bool {
    let Some((before, after)) = value.split_once('?') else { return false };
    let query = after.split('#').next().unwrap_or_default();
    before.contains("://")
        && url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| is_secret(&name, &value))
}

/// `Authorization: Bearer x`, as bridges from one transport to another are given headers.
fn is_header(arg: &str) -> bool {
    arg.split_once(':').is_some_and(|(name, value)| {
        !value.trim().is_empty() && !value.starts_with("//") && (is_named(name) || is_valued(value.trim()))
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// `scheme://user:password@host`.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, word)| !word.is_empty()))
}

/// Whether a value is a JSON document that has one in it, as some servers are given the headers of their requests.
fn is_in_document(value: &str) -> bool {
    fn holds(value: &Value) -> bool {
        match value {
            Value::String(text) => is_valued(text) || is_header(text),
            Value::Array(elements) => elements.iter().any(holds),
            Value::Object(members) => members.iter().any(|(name, value)| match value {
                Value::String(text) => is_secret(name, text),
                other => holds(other),
            }),
            _ => false,
        }
    }
    value.trim_start().starts_with(['{', '['])
        && serde_json::from_str(value).is_ok_and(|document| holds(&document))
}

fn is_random(value: &str) -> bool {
    let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '='));
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let letters = value.chars().filter(char::is_ascii_alphabetic).count();
    fits && value.len() >= RANDOM_CHARS_MIN && digits >= 4 && letters >= 4
}

/// The words of a name, however it joins them.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins = !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && before.is_ascii_lowercase());
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    // CONNECTION_STRING is one word with a seam.
    let joined: Vec<String> =
        words.windows(2).map(<[String]>::concat).filter(|pair| WORDS.contains(&pair.as_str())).collect();
    words.extend(joined);
    words
}

/// Whether a text holds characters that a person doesn't see, or sees elsewhere than they stand (T28).
pub(crate) fn hides(text: &str) -> bool {
    text.chars().any(|c| {
        matches!(c,
            '\u{00AD}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell() {
        for name in [
            "GITHUB_TOKEN",
            "X-Api-Key",
            "apiKey",
            "OPENAI_API_KEY",
            "DB_PASSWORD",
            "Authorization",
            "Cookie",
            "POSTGRES_CONNECTION_STRING",
            "CLIENT_SECRET",
            "access_token",
            "--api-key",
            "NOTION_PAT",
        ] {
            assert!(is_named(name), "{name}");
        }
        for name in [
            "MODE",
            "LOG_LEVEL",
            "TOKEN_FILE",
            "KEY_PATH",
            "AWS_ACCESS_KEY_ID",
            "MONKEY",
            "--port",
            "X-Org",
            "",
        ] {
            assert!(!is_named(name), "{name}");
        }
    }

    #[test]
    fn values_tell() {
        for value in [
            "ghp_0123456789abcdef",
            "sk-proj-abcdef",
            "Bearer abcdef",
            "postgresql://u:p@h/db",
            "a1b2c3d4e5f6a7b8c9d0e1f2a3b4",
            "xoxb-1-2-abc",
            r#"{"Authorization": "Bearer abcdef", "Notion-Version": "2022-06-28"}"#,
            r#"[{"accounts": [{"user": "ann", "password": "x"}]}]"#,
            r#"  {"headers": ["Accept: */*", "Authorization: Bearer abcdef"]}"#,
        ] {
            assert!(is_valued(value), "{value}");
        }
        for value in [
            r#"{"level": "info", "keys": 3, "accounts": [{"user": "ann", "password": ""}]}"#,
            "{not: json, password: x",
            "@modelcontextprotocol/server-everything@2026.8.31",
            "/home/me/some/very/long/path/to/files1234",
            "postgresql://h/db",
            "https://mcp.example.com/sse",
            "true",
            "sk-",
            "a-long-name-made-of-plain-words-only",
        ] {
            assert!(!is_valued(value), "{value}");
        }
    }

    #[test]
    fn arguments_tell_by_the_flag_before_them() {
        let args = [
            "-y",
            "pkg@1.2.3",
            "--token",
            "abc",
            "--port",
            "80",
            "--api-key=x",
            "-e",
            "DB_PASSWORD=x",
            "--header",
            "Authorization: Bearer x",
            "--url",
            "https://h/mcp",
            "-e",
            "MODE=x",
            "--token-file",
            "/t",
            "https://mcp.tavily.com/mcp/?tavilyApiKey=x",
            "--url=https://h/mcp?page=2&token=x",
            "https://h/mcp?page=2#token=x",
            "--header=Authorization: Bearer x",
            "--header=X-Org: a",
            "--env=GITHUB_TOKEN=abc",
            "--env=MODE=b",
            "password=x",
            "type=bind,src=/a,dst=/b",
            "--env=TOKEN=",
        ];
        let secret: Vec<&str> = secret_args(args.iter().copied())
            .into_iter()
            .zip(args)
            .filter(|(secret, _)| *secret)
            .map(|(_, arg)| arg)
            .collect();
        assert_eq!(
            secret,
            [
                "abc",
                "--api-key=x",
                "DB_PASSWORD=x",
                "Authorization: Bearer x",
                "https://mcp.tavily.com/mcp/?tavilyApiKey=x",
                "--url=https://h/mcp?page=2&token=x",
                "--header=Authorization: Bearer x",
                "--env=GITHUB_TOKEN=abc",
                "password=x",
            ]
        );
        // However long it is, it is read once or a few times.
        assert_eq!(secret_args(["A=".repeat(500_000).as_str()].into_iter()), [false]);
    }

    #[test]
    fn what_nobody_sees_is_seen() {
        for text in ["a\u{200B}b", "\u{202E}x", "\u{E0041}", "\u{FEFF}", "x\u{2066}"] {
            assert!(hides(text), "{text:?}");
        }
        assert!(!hides("npx -y @scope/pkg@1.2.3 /数据/ü"));
    }
}
