//! What is said of workers, to the log and to clients, in words that someone can act on.

use super::policy::{HANG_GRACE, Rules};
use super::pool::Generation;
use super::report::{Cause, Loaded};

/// Why a worker is ended, for clients too: it names no path.
pub(super) fn verdict(cause: Cause, rules: &Rules, memory: u64) -> String {
    match cause {
        Cause::Slow => {
            format!("the handler was not ready within {:?} (handlers.start_timeout)", rules.start_timeout)
        }
        Cause::Hang => format!(
            "the handler's process hung: its event loop was blocked for more than {:?} (handlers.request_timeout and {HANG_GRACE:?})",
            rules.request_timeout
        ),
        Cause::Memory => format!(
            "the handler's process used {} of memory, more than {} (handlers.memory), and was ended",
            size(memory),
            size(rules.memory)
        ),
        Cause::Load | Cause::Crash | Cause::Requests | Cause::Stuck => {
            "the handler's process was ended".to_owned()
        }
    }
}

/// What a call is told that its worker, which is replaced, did not end in time.
pub(super) const OVERDUE: &str =
    "the handler's process was replaced, and this call of it did not end within server.drain_timeout";

/// What to look at, for the log.
pub(super) fn remedy(cause: Cause) -> &'static str {
    match cause {
        Cause::Slow => "; the stacks that follow show what its module or constructor waits for",
        Cause::Hang => {
            "; it is ended and replaced, and the stacks that follow show where it blocks: an `async def` must not call what waits"
        }
        Cause::Load | Cause::Crash | Cause::Memory | Cause::Requests | Cause::Stuck => "",
    }
}

/// Why a worker is replaced that goes on until then.
pub(super) fn replaced(cause: Cause, stuck: (u64, u64)) -> String {
    match cause {
        Cause::Stuck => format!(
            "{} of its {} threads are held by synchronous calls that nobody waits for any more",
            stuck.0, stuck.1
        ),
        _ => "it has served its share of calls (handlers.max_requests)".to_owned(),
    }
}

/// A worker is ready; `first` of its generation, it has more to tell.
pub(super) fn tell_ready(
    integration: &str,
    generation: &Generation,
    pid: Option<&u32>,
    loaded: &Loaded,
    first: bool,
) {
    let (class, number) = (&*loaded.class, generation.number);
    if !first {
        return tracing::info!(integration, pid, generation = number, class, "a worker is ready");
    }
    let (methods, style, litellm) = (loaded.methods.join(", "), &*loaded.style, &*loaded.litellm);
    tracing::info!(
        integration,
        pid,
        generation = number,
        class,
        methods,
        style,
        litellm,
        "the handler is ready"
    );
    for warning in &loaded.warnings {
        tracing::warn!(integration, class, "{warning}");
    }
}

/// A worker has not loaded the handler.
pub(super) fn tell_failed(
    integration: &str,
    generation: &Generation,
    pid: Option<&u32>,
    error: &str,
    traceback: Option<&str>,
) {
    let spec = &generation.spec;
    let handler = format!("{}:{}", spec.file_name, spec.class_name);
    match traceback {
        Some(traceback) => {
            let traceback = traceback.replace('\n', "\n    ");
            tracing::error!(integration, pid, handler, "the handler does not load: {error}\n    {traceback}");
        }
        None => tracing::error!(integration, pid, handler, "the handler does not load: {error}"),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        // Precise enough for people.
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_names_the_figure_and_the_setting() {
        let rules = Rules {
            start_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::ZERO,
            memory: 1 << 30,
        };
        assert_eq!(
            verdict(Cause::Memory, &rules, 1_288_490_188),
            "the handler's process used 1.2 GiB of memory, more than 1 GiB (handlers.memory), and was ended"
        );
        assert!(verdict(Cause::Slow, &rules, 0).contains("60s (handlers.start_timeout)"));
        assert!(verdict(Cause::Hang, &rules, 0).contains("10s (handlers.request_timeout and 5s)"));
        assert!(replaced(Cause::Stuck, (17, 32)).starts_with("17 of its 32 threads"));
        assert_eq!(
            (size(0), size(1536), size(64 << 20)),
            ("0 bytes".into(), "1.5 KiB".into(), "64 MiB".into())
        );
    }
}
