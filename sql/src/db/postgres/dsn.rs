//! What a DSN says of TLS, of which the driver knows only a part: taken out, and the rest left to the driver.

use percent_encoding::percent_decode_str;

use crate::model::secret::Secret;

/// A DSN in its two parts.
pub(super) struct Dsn {
    pub(super) tls: TlsOptions,
    /// What the driver reads.
    pub(super) rest: Secret<String>,
}

/// What a DSN says of TLS, as it stands there; of what stands there twice the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) mode: Option<String>,
    pub(super) root_certificates: Option<String>,
}

impl TlsOptions {
    /// Whether this was an option of TLS, and therefore not the driver's.
    fn take(&mut self, key: &str, value: impl FnOnce() -> Option<String>) -> Option<bool> {
        match key {
            "sslmode" => self.mode = Some(value()?),
            // As for libpq, an empty one is none.
            "sslrootcert" => self.root_certificates = Some(value()?).filter(|path| !path.is_empty()),
            _ => return Some(false),
        }
        Some(true)
    }
}

impl Dsn {
    /// Takes a DSN apart; nothing if it is neither of the two forms.
    pub(super) fn split(text: &str) -> Option<Self> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let mut tls = TlsOptions::default();
        let rest = if is_url { url_without(&mut tls, text)? } else { pairs_without(&mut tls, text)? };
        Some(Self { tls, rest: Secret::new(rest) })
    }
}

/// Of `key=value` pairs, those that aren't about TLS.
fn pairs_without(tls: &mut TlsOptions, text: &str) -> Option<String> {
    let mut rest = String::new();
    let mut left = text.trim_start();
    while !left.is_empty() {
        // The driver would leave all from a pair without a key on unread, and say nothing.
        let key = &left[..left.find(|c: char| c == '=' || c.is_whitespace()).filter(|length| *length > 0)?];
        let value = left[key.len()..].trim_start().strip_prefix('=')?.trim_start();
        let (plain, length) = value_at_start(value)?;
        if !tls.take(key, || Some(plain))? {
            rest.push_str(&left[..left.len() - value.len() + length]);
            rest.push(' ');
        }
        left = value[length..].trim_start();
    }
    Some(rest)
}

/// The value that a text begins with, without quotes and backslashes, and its length with them.
fn value_at_start(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut plain = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((plain, at + 1)),
            c if !quoted && c.is_whitespace() => return Some((plain, at)),
            c => plain.push(c),
        }
    }
    (!quoted).then_some((plain, text.len()))
}

/// A URL without those of its parameters that are about TLS.
fn url_without(tls: &mut TlsOptions, text: &str) -> Option<String> {
    // The driver takes all before the first @ for user and password, and in a password may be a question mark.
    let host = text.find('@').map_or(0, |at| at + 1);
    let Some(at) = text[host..].find('?') else { return Some(text.to_owned()) };
    let (before, query) = text.split_at(host + at);
    let mut rest = before.to_owned();
    for parameter in query[1..].split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !tls.take(&decode(key)?, || decode(value))? {
            rest.push(if rest.len() == before.len() { '?' } else { '&' });
            rest.push_str(parameter);
        }
    }
    Some(rest)
}

fn decode(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (TlsOptions, String) {
        let dsn = Dsn::split(text).expect("a DSN");
        (dsn.tls, dsn.rest.expose().clone())
    }

    fn expected(mode: Option<&str>, root: Option<&str>, rest: &str) -> (TlsOptions, String) {
        let tls = TlsOptions { mode: mode.map(str::to_owned), root_certificates: root.map(str::to_owned) };
        (tls, rest.to_owned())
    }

    #[test]
    fn pairs_are_taken_out_wherever_they_stand() {
        assert_eq!(
            split(r"sslmode=verify-full host=a password='it\'s sslmode=x' sslrootcert='/a b/it\'s.pem'"),
            expected(Some("verify-full"), Some("/a b/it's.pem"), r"host=a password='it\'s sslmode=x' ")
        );
        assert_eq!(
            split(r"host = a sslrootcert = /with\ space.pem  user=u"),
            expected(None, Some("/with space.pem"), "host = a user=u ")
        );
        assert_eq!(
            split("sslmode=require sslmode=disable host=a"),
            expected(Some("disable"), None, "host=a ")
        );
        assert_eq!(split("sslrootcert='' host=a"), expected(None, None, "host=a "));
        assert_eq!(split("sslmode="), expected(Some(""), None, ""));
    }

    #[test]
    fn parameters_are_taken_out_of_a_url() {
        assert_eq!(
            split(
                "postgres://u:p%40?sslmode=x@h/d?sslmode=verify-ca&application_name=n&sslrootcert=%2Fa%20b.pem"
            ),
            expected(
                Some("verify-ca"),
                Some("/a b.pem"),
                "postgres://u:p%40?sslmode=x@h/d?application_name=n"
            )
        );
        assert_eq!(
            split("postgresql:///d?host=%2Frun&ssl%6Dode=prefer&port=1"),
            expected(Some("prefer"), None, "postgresql:///d?host=%2Frun&port=1")
        );
        assert_eq!(
            split("postgres://u@h/d?sslmode=require"),
            expected(Some("require"), None, "postgres://u@h/d")
        );
        assert_eq!(split("postgres://u@h/d"), expected(None, None, "postgres://u@h/d"));
    }

    #[test]
    fn what_is_left_is_for_the_driver_to_judge() {
        for text in ["postgres://u@h/d?flag&sslmode=require", "postgres://u@h/d?a=b&&c", "host=a nonsense=1"]
        {
            let (_, rest) = split(text);
            assert!(rest.parse::<tokio_postgres::Config>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_neither_form_is_no_dsn() {
        for text in ["host", "host=a user", "host='a", "=a", "postgres://u@h/d?sslmode=%ff", "host a=b"] {
            assert!(Dsn::split(text).is_none(), "{text}");
        }
    }
}
