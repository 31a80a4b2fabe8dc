//! Secrets and URLs that hold one, kept out of messages.

use std::fmt;
use std::ops::Range;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

/// Text that must not be seen. It has no `Display`, and its `Debug` does not
/// show it, so that no log and no message can hold it by mistake; memory that
/// held it is overwritten.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The text in the type that other crates take.
    #[must_use]
    pub fn to_secret_string(&self) -> SecretString {
        self.0.clone()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The URL of a database. It may hold a password, so only its scheme, user, host,
/// port and database are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Secret);

impl DatabaseUrl {
    /// The whole URL. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether it names a file of SQLite.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.expose().starts_with("sqlite:")
    }
}

impl<T: Into<Secret>> From<T> for DatabaseUrl {
    fn from(url: T) -> Self {
        Self(url.into())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(self.expose()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", shown_url(self.expose()))
    }
}

/// Shown in place of a URL of which no part is known to be harmless.
pub(super) const HIDDEN_URL: &str = "(hidden)";

/// Whether the name of a key says that its value is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "passphrase", "secret", "token", "ssl.key.pem", "jaas"].iter().any(|word| name.contains(word))
        && !["endpoint.url", "tokens", "expir"].iter().any(|word| name.contains(word))
}

/// The URL of a database as people may see it: scheme, user, host, port and
/// database. Everything else is left out, since a password may stand before the
/// host as well as among the parameters.
pub(super) fn shown_url(url: &str) -> String {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return format!("sqlite:{}", file.split('?').next().unwrap_or_default());
    }
    let Ok(parsed) = Url::parse(url) else {
        // Connection strings of other forms (`host=db password=..`) hold secrets
        // too; a plain word, such as a typing error, may be repeated.
        return if url.contains(['=', '@', ':']) { HIDDEN_URL.to_owned() } else { url.to_owned() };
    };
    if !parsed.has_authority() {
        return HIDDEN_URL.to_owned();
    }
    // Parameters may name parts that the URL itself does not have.
    let parameter = |names: &[&str]| {
        let found = parsed.query_pairs().find(|(name, value)| names.contains(&name.as_ref()) && !value.is_empty());
        found.map(|(_, value)| value.into_owned())
    };
    let user = Some(parsed.username().to_owned()).filter(|user| !user.is_empty()).or_else(|| parameter(&["user"]));
    let host = parsed.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
    let host = host.or_else(|| parameter(&["host", "hostaddr"])).unwrap_or_default();
    let port = parsed.port().map(|port| port.to_string()).or_else(|| parameter(&["port"]));
    let database = Some(parsed.path().to_owned()).filter(|path| path.len() > 1);
    let database = database.or_else(|| parameter(&["dbname"]).map(|name| format!("/{name}")));
    let (user, port) = (user.map(|user| format!("{user}@")), port.map(|port| format!(":{port}")));
    let [user, port, database] = [user, port, database].map(Option::unwrap_or_default);
    format!("{}://{user}{host}{port}{database}", parsed.scheme())
}

/// The range of the password in the first URL of `text`: between the `:` after the
/// user and the last `@` before the host.
fn password(text: &str) -> Option<Range<usize>> {
    let authority = text.find("://")? + 3;
    let rest = &text[authority..];
    let end = rest.find(['/', '?', '#', '"', '\'', '\n']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    let colon = rest[..at].find(':')?;
    Some(authority + colon + 1..authority + at)
}

/// The ranges in `line` of URL parameters that are secrets by their names, as in
/// `?password=..`.
fn parameters_of_secrets(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(['?', '&']) {
        let rest = &line[at + 1..];
        let end = rest.find(['&', '#', '"', '\'', ' ', '\n']).unwrap_or(rest.len());
        if let Some((name, _)) = rest[..end].split_once('=').filter(|(name, _)| is_secret_name(name)) {
            found.push(at + 1 + name.len() + 1..at + 1 + end);
        }
    }
    found
}

/// The text with every secret in it replaced by stars, byte for byte, so that all
/// other text keeps its place.
///
/// `known` are the secrets that reading found. A file that is no TOML may hold
/// more, so text after the name of a secret is hidden too.
pub(super) fn hide(text: &str, known: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut star = |range: Range<usize>| {
        for byte in bytes.iter_mut().take(range.end).skip(range.start).filter(|byte| **byte != b'\n') {
            *byte = b'*';
        }
    };
    known.iter().cloned().for_each(&mut star);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(equals) = line.find('=') {
            let (key, rest) = line.split_at(equals + 1);
            let plain = !rest.trim_start().starts_with(['{', '[']);
            if plain && is_secret_name(key) {
                let space = rest.len() - rest.trim_start().len();
                star(start + equals + 1 + space..start + line.len());
            }
        }
        if let Some(password) = password(line) {
            star(start + password.start..start + password.end);
        }
        for parameter in parameters_of_secrets(line) {
            star(start + parameter.start..start + parameter.end);
        }
        start += line.len();
    }
    // Stars replace whole characters or all of a line's rest, so this is text.
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_scheme_user_host_port_and_database_only() {
        for (url, shown) in [
            ("postgres://u:p@ss@h:5432/db", "postgres://u@h:5432/db"),
            ("postgres://u@h/db?password=hunter2&sslmode=require", "postgres://u@h/db"),
            ("postgres:///?host=h&port=5433&user=u&dbname=db&password=hunter2", "postgres://u@h:5433/db"),
            ("postgres://h/db?application_name=x&options=-c%20a=hunter2#hunter2", "postgres://h/db"),
            ("mysql://u:hunter2@h/db", "mysql://u@h/db"),
            ("sqlite://courier.db?mode=ro&key=hunter2", "sqlite://courier.db"),
            ("sqlite://courier.db", "sqlite://courier.db"),
            ("host=db password=hunter2", HIDDEN_URL),
            ("postgres:u:hunter2@h", HIDDEN_URL),
            ("shop", "shop"),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }

    #[test]
    fn a_password_among_the_parameters_of_a_url_is_hidden_in_place() {
        let line = "url = \"postgres://u@h/d?sslmode=disable&password=hunter2&x=1\" # why?\n";
        let hidden = hide(line, &[]);
        assert_eq!(hidden.len(), line.len());
        assert!(!hidden.contains("hunter2") && hidden.contains("&x=1\" # why?"), "{hidden}");
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden_in_place() {
        let text = "a = 1\n\"sasl.password\" = \"hünter2\nurl = \"postgres://u:pw@h/d\"\nb = \"x\"\n";
        let hidden = hide(text, &[]);
        assert_eq!(hidden.len(), text.len());
        assert!(!hidden.contains("nter2") && !hidden.contains("pw@"), "{hidden}");
        assert!(hidden.contains("b = \"x\"") && hidden.contains("@h/d"), "{hidden}");
    }

    #[test]
    fn names_say_whether_their_value_is_a_secret() {
        for name in [
            "sasl.jaas.config",
            "sasl.password",
            "ssl.key.password",
            "sasl.oauthbearer.client.secret",
            "API_TOKEN",
            "ssl.key.pem",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["sasl.username", "sasl.oauthbearer.token.endpoint.url", "tokens", "ssl.key.location"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    /// Item 10: a name that holds a secret cannot be printed by mistake.
    #[test]
    fn secrets_and_urls_print_nothing_that_is_secret() {
        let secret = Secret::from("hunter2");
        assert_eq!((format!("{secret:?}"), secret.expose()), ("Secret(..)".to_owned(), "hunter2"));
        let url = DatabaseUrl::from("postgres://u:hunter2@h/db?password=hunter2");
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("postgres://u@h/db".to_owned(), "\"postgres://u@h/db\"".to_owned())
        );
        assert!(url.expose().contains("hunter2") && url != DatabaseUrl::from("postgres://u@h/db"));
    }
}
