//! `courier dev --watch handler.ts`: builds, pushes and activates a handler after
//! each save, and prints the attempts that follow.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use super::client::{HostClient, Refused};
use super::plugin;
use super::shapes::{Attempt, Delivery, ShownPage, Upload};
use super::table;

/// Interval between two reads of the files, short enough for a save to seem noticed
/// at once.
const FILES_EVERY: Duration = Duration::from_millis(250);
/// Interval between two requests for new attempts.
const ATTEMPTS_EVERY: Duration = Duration::from_millis(500);
/// Interval at which a starting host is asked whether it accepts uploads.
const READY_EVERY: Duration = Duration::from_millis(100);
/// How long a host may start before it is told why nothing can be uploaded yet.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// Number of the newest deliveries that are searched for new attempts.
const NEWEST: usize = 50;
/// Greatest number of watched files in a folder; a handler's folder has fewer.
const MAX_FILES: usize = 2_000;
/// File extensions of a handler's sources.
const ENDINGS: [&str; 7] = ["ts", "mts", "js", "mjs", "json", "py", "rs"];
/// Folders of dependencies and build results, which are not watched.
const FOREIGN: [&str; 4] = ["node_modules", "target", "__pycache__", "venv"];

/// The paths, times and sizes of a folder's sources, which a save changes.
type Look = Vec<(PathBuf, SystemTime, u64)>;

/// Builds and pushes `handler` whenever a source beside it is saved, until the host
/// ends.
///
/// # Errors
/// Why the host takes nothing from this client, such as a missing token.
pub(super) async fn run(client: HostClient, handler: PathBuf) -> anyhow::Result<Infallible> {
    until_ready(&client, TOLD_AFTER, tell).await?;
    let folder = if handler.is_dir() { handler.clone() } else { folder_of(&handler) };
    let mut seen = None;
    let mut attempts = WatchedAttempts::default();
    let mut files = tokio::time::interval(FILES_EVERY);
    let mut host = tokio::time::interval(ATTEMPTS_EVERY);
    for ticks in [&mut files, &mut host] {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = files.tick() => {
                let look = look(&folder);
                if seen.as_ref() == Some(&look) {
                    continue;
                }
                let is_first = seen.replace(look).is_none();
                match push(&client, &handler).await {
                    Ok(upload) => {
                        attempts.begin(&client, &upload).await;
                        tell(&pushed(&upload, is_first));
                    }
                    Err(error) => tell(&format!("{}: {error:#}", handler.display())),
                }
            }
            // After a failed request the next tick asks again.
            _ = host.tick() => if let Ok(lines) = attempts.next(&client).await {
                lines.iter().for_each(|line| tell(line));
            },
        }
    }
}

/// Waits until the host takes uploads. An answer that no waiting changes is an error; what
/// else is wrong is told once it has lasted, since the host may never become reachable.
async fn until_ready(client: &HostClient, told_after: Duration, tell: impl Fn(&str)) -> anyhow::Result<()> {
    let (begun, mut told) = (tokio::time::Instant::now(), false);
    while let Err(error) = client.get(&["plugins"], &[]).await {
        if error.downcast_ref::<Refused>().is_some_and(|refused| !refused.may_pass()) {
            return Err(error.context("the host takes no handler from this command"));
        }
        if !told && begun.elapsed() >= told_after {
            told = true;
            tell(&format!("nothing is watched yet: {error:#}"));
        }
        tokio::time::sleep(READY_EVERY).await;
    }
    Ok(())
}

/// Prints a text to standard error, where the host logs, with control characters
/// escaped, since handlers write parts of it.
fn tell(text: &str) {
    eprintln!("{}", table::clean(text.trim_end()));
}

async fn push(client: &HostClient, handler: &Path) -> anyhow::Result<Upload> {
    let path = handler.to_owned();
    let file = tokio::task::spawn_blocking(move || plugin::component(&path)).await??;
    let component = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = plugin::name_of(&file, &component)?;
    let query = [("activate", Some("true".to_owned()))];
    client.put(&["plugins", &name], &query, component).await?.read()
}

/// The report of an upload. The first one shows the binding to write when there is
/// no courier.toml.
fn pushed(upload: &Upload, is_first: bool) -> String {
    if is_first && !Path::new("courier.toml").is_file() {
        return plugin::uploaded(upload);
    }
    format!("{} {} is active", upload.name, table::version(&upload.version))
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The sources in a folder and below, each with its time and size.
fn look(folder: &Path) -> Look {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && !name.starts_with('.') && !FOREIGN.contains(&&*name) {
                folders.push(path);
            } else if about.is_file() && is_source(&path) && found.len() < MAX_FILES {
                found.push((path, about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len()));
            }
        }
    }
    found.sort();
    found
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

/// The attempts of the groups that a plugin handles messages for.
#[derive(Default)]
struct WatchedAttempts {
    version: String,
    printed: HashSet<(String, u64)>,
}

impl WatchedAttempts {
    /// Starts to print the attempts of this version.
    async fn begin(&mut self, client: &HostClient, upload: &Upload) {
        self.version.clone_from(&upload.version);
        self.printed.clear();
        // Skips earlier attempts: the same bytes may have been active before.
        let _ = self.next(client).await;
    }

    /// Describes the attempts since the last call, the oldest first.
    async fn next(&mut self, client: &HostClient) -> anyhow::Result<Vec<String>> {
        if self.version.is_empty() {
            return Ok(Vec::new());
        }
        let page: ShownPage<Delivery> =
            client.get(&["deliveries"], &[("limit", Some(NEWEST.to_string()))]).await?.read()?;
        let mut lines = Vec::new();
        for delivery in page.items.iter().rev() {
            // Deliveries in the list come without logs.
            let known = delivery.attempts.as_deref().unwrap_or(&[]);
            if known.iter().all(|attempt| self.is_known(&delivery.id, attempt)) && !known.is_empty() {
                continue;
            }
            let whole: Delivery = client.get(&["deliveries", &delivery.id], &[]).await?.read()?;
            for attempt in whole.attempts.as_deref().unwrap_or(&[]) {
                if !self.is_known(&whole.id, attempt) && attempt.verdict.is_some() {
                    self.printed.insert((whole.id.clone(), attempt.number));
                    lines.push(line(&whole, attempt));
                }
            }
        }
        Ok(lines)
    }

    fn is_known(&self, delivery: &str, attempt: &Attempt) -> bool {
        attempt.version.as_ref() != Some(&self.version) || self.printed.contains(&(delivery.to_owned(), attempt.number))
    }
}

/// Describes one attempt: the message, the verdict and the log.
fn line(delivery: &Delivery, attempt: &Attempt) -> String {
    let type_name = delivery.type_name.as_deref().unwrap_or("-");
    let key = delivery.key.as_deref().unwrap_or("-");
    let verdict = attempt.verdict.as_deref().unwrap_or("-");
    let mut text =
        format!("{} {} {type_name} {key}: attempt {} {verdict}", delivery.state, delivery.topic, attempt.number);
    if let Some(reason) = &attempt.reason {
        text.push_str(&format!(", {reason}"));
    }
    for logged in attempt.log.as_deref().unwrap_or_default().lines() {
        text.push_str(&format!("\n    {logged}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU16;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_save_changes_what_a_folder_looks_like_and_a_build_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("handler.ts", "a");
        write("lib/rule.ts", "a");
        let first = look(temp.path());
        assert_eq!(first.len(), 2);
        for built in ["handler.wasm", "node_modules/x/index.js", ".venv/x.py", "target/x.rs"] {
            write(built, "b");
        }
        assert_eq!(look(temp.path()), first);
        write("lib/rule.ts", "longer");
        assert_ne!(look(temp.path()), first);
        assert_eq!(folder_of(Path::new("handler.ts")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/handler.ts")), Path::new("a"));
    }

    /// Without a token, or over the wrong scheme, the command waited in silence for ever.
    #[tokio::test]
    async fn a_host_that_takes_nothing_ends_the_watch_and_one_that_is_away_is_told() {
        let status = Arc::new(AtomicU16::new(503));
        let shown = Arc::clone(&status);
        let host = axum::Router::new().fallback(move || {
            let status = axum::http::StatusCode::from_u16(shown.load(Relaxed)).unwrap();
            async move { (status, [("content-type", "application/json")], r#"{"title":"so it is"}"#) }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = reqwest::Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let client = HostClient::new(&base, None, None).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, host).await });
        // While the host starts it is asked again, and that is told once it lasts.
        let told = |text: &str| {
            assert!(text.contains("so it is"), "{text}");
            status.store(401, Relaxed);
        };
        let refused = format!("{:#}", until_ready(&client, Duration::ZERO, told).await.unwrap_err());
        assert!(refused.contains("so it is (--token or COURIER_TOKEN"), "{refused}");
        status.store(200, Relaxed);
        until_ready(&client, Duration::ZERO, |text| panic!("{text}")).await.unwrap();
        server.abort();
    }

    #[test]
    fn an_attempt_is_shown_with_its_log() {
        let delivery: Delivery = serde_json::from_value(serde_json::json!({
            "id": "d", "group": "g", "topic": "order", "key": "o-1", "type": "OrderCreated", "state": "HANDLE_FAIL",
        }))
        .unwrap();
        let attempt: Attempt = serde_json::from_value(serde_json::json!({
            "number": 2, "verdict": "error", "reason": "it broke at handler.ts:3:9", "log": "one\ntwo\n",
        }))
        .unwrap();
        assert_eq!(
            line(&delivery, &attempt),
            "HANDLE_FAIL order OrderCreated o-1: attempt 2 error, it broke at handler.ts:3:9\n    one\n    two"
        );
    }
}
