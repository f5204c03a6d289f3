//! Which keys of `[server]`, `[admin]` and `[log]` a running process takes over, and which need a restart.

use std::sync::Arc;

use crate::config::valid::{SecretSource, Server, Settings};
use crate::proxy::Rules;
use crate::secret::Secret;

/// What holds for every request.
///
/// # Errors
///
/// The caller key cannot be read: nobody may then be let in as if there were none.
pub(super) fn rules(server: &Server) -> Result<Rules, String> {
    let load = |key: &SecretSource| key.load().map_err(|why| format!("server.{}: {why}", key.key("api_key")));
    let key = server.api_key.as_ref().map(load).transpose()?;
    Ok(rules_with(server, key))
}

/// What holds for every request, with this caller key.
pub(super) fn rules_with(server: &Server, caller_key: Option<Secret>) -> Rules {
    Rules { caller_key, max_body: server.max_body, body_timeout: server.body_timeout }
}

/// The keys in which `new` differs from what runs, and which only a restart changes.
pub(super) fn needs_restart(running: &Settings, new: &Settings) -> Vec<&'static str> {
    let (a, b) = (&running.server, &new.server);
    let keys = [
        ("server.listen", a.listen != b.listen),
        ("server.unix_mode", a.unix.mode != b.unix.mode),
        ("server.unix_owner", a.unix.owner != b.unix.owner),
        ("server.unix_group", a.unix.group != b.unix.group),
        ("server.tls", a.tls != b.tls),
        ("server.workers", a.workers != b.workers),
        ("server.header_timeout", a.header_timeout != b.header_timeout),
        ("server.idle_timeout", a.idle_timeout != b.idle_timeout),
        ("server.max_header_bytes", a.max_header_bytes != b.max_header_bytes),
        ("server.max_connections", a.max_connections != b.max_connections),
        ("admin.listen", running.admin.listen != new.admin.listen),
        ("admin.metrics_listen", running.admin.metrics_listen != new.admin.metrics_listen),
        ("log.format", running.log.format != new.log.format),
        ("log.access", running.log.access != new.log.access),
        ("handlers.egress", running.handlers.egress != new.handlers.egress),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// The settings that run once `new` is taken over: keys that need a restart stay, so that each reload names them.
pub(super) fn running(old: &Settings, new: Settings) -> Settings {
    let mut settings = new;
    let (server, was) = (&mut settings.server, &old.server);
    server.listen.clone_from(&was.listen);
    server.unix = was.unix;
    server.tls.clone_from(&was.tls);
    server.workers = was.workers;
    server.header_timeout = was.header_timeout;
    server.idle_timeout = was.idle_timeout;
    server.max_header_bytes = was.max_header_bytes;
    server.max_connections = was.max_connections;
    settings.admin = old.admin.clone();
    settings.log.format = old.log.format;
    settings.log.access = old.log.access;
    if settings.handlers.egress != old.handlers.egress {
        Arc::make_mut(&mut settings.handlers).egress = old.handlers.egress;
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Options, load};

    fn settings(toml: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), toml).unwrap();
        let options =
            Options { env: Environment::default(), dir: dir.path().to_owned(), ..Options::default() };
        load(&options).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    #[test]
    fn what_needs_a_restart_is_named_at_each_reload_and_the_rest_is_taken_over() {
        let old = settings("[server]\nworkers = 1\n");
        let text = "[server]\nworkers = 1\nlisten = \"127.0.0.1:1\"\nidle_timeout = \"1s\"\nlinger = \"3s\"\n\
                    max_body = 7\n[admin]\nlisten = \"off\"\n[log]\naccess = false\nlevel = \"debug\"\n[handlers]\negress = true\n";
        let new = settings(text);
        let named = ["server.listen", "server.idle_timeout", "admin.listen", "log.access", "handlers.egress"];
        assert_eq!(needs_restart(&old, &new), named);
        let now = running(&old, new.clone());
        assert_eq!(needs_restart(&now, &new), named);
        assert_eq!((now.server.linger, now.server.max_body), (new.server.linger, 7));
        assert_eq!((now.log.level, &now.server.listen), (new.log.level, &old.server.listen));
        assert!(needs_restart(&old, &old.clone()).is_empty());
    }
}
