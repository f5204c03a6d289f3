//! Where one credential's tokens come from: a pointer for the hot path, and behind it a cache in which a fetch is
//! made once for all who need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use super::answer::Granted;
use super::credential::{Credential, Held, Issuer};
use super::error::AuthError;
use super::fetch::{Miss, Way};
use super::state::{NONE, Plan, State, Token, Verdict};
use crate::outbound::Stamp;
use crate::tasks::{Seat, Tasks};

/// The states of all credentials of one kind. A fetch is moka's init: one for all who ask meanwhile.
///
/// Its key is the credential with its way, its value never expires in moka: when a token ends is known by our own value alone.
pub(super) type States<C> = Cache<Arc<Held<C>>, Arc<State<<C as Credential>::Pass>>>;

/// One credential and what is known of it. Shared by all integrations that have the same credential.
pub(super) struct Source<C: Credential> {
    held: Arc<Held<C>>,
    issuer: Issuer,
    states: States<C>,
    latest: ArcSwap<State<C::Pass>>,
    renewing: AtomicBool,
    serial: Arc<AtomicU64>,
    tasks: Tasks,
    numbers: Numbers,
}

/// One integration, for which a credential's tokens are.
pub(super) struct User {
    /// How it has a token fetched.
    pub(super) way: Way,
    /// The stamp of the last token that its upstream refused; 0 before the first. Others that have the same credential
    /// may be let in with that: what one upstream does not like is no outage of theirs.
    refused: AtomicU64,
}

impl User {
    /// One whose upstream has refused nothing.
    pub(super) fn new(way: Way) -> Self {
        Self { way, refused: AtomicU64::new(NONE.0) }
    }

    fn refused(&self) -> Stamp {
        Stamp(self.refused.load(Ordering::Relaxed))
    }
}

/// What has been counted for one credential.
#[derive(Default)]
pub(super) struct Numbers {
    /// Token requests that were made.
    pub(super) fetches: AtomicU64,
    /// Those of them that gave no token.
    pub(super) failures: AtomicU64,
    /// Requests that wait for a token now.
    pub(super) waiting: AtomicUsize,
    /// What the last failure said.
    pub(super) last_error: ArcSwapOption<String>,
}

impl<C: Credential> Source<C> {
    /// The credential that its tokens are asked for with.
    pub(super) fn credential(&self) -> &C {
        &self.held.credential
    }

    /// A source for what is `held` that keeps its state in `states` and takes its numbers from `serial`.
    pub(super) fn new(held: Arc<Held<C>>, states: States<C>, serial: Arc<AtomicU64>, tasks: Tasks) -> Self {
        Self {
            issuer: held.credential.issuer(),
            held,
            states,
            latest: ArcSwap::default(),
            renewing: AtomicBool::new(false),
            serial,
            tasks,
            numbers: Numbers::default(),
        }
    }

    /// Hands a token to `put`, at once if there is a live one, else after a fetch.
    pub(super) async fn with_token<T>(
        self: &Arc<Self>,
        seat: Seat,
        user: &User,
        put: impl FnOnce(&Token<C::Pass>) -> T,
    ) -> Result<T, AuthError> {
        let now = Instant::now();
        let live = {
            let latest = self.latest.load();
            if let Some(token) = latest.fresh(now) {
                return Ok(put(token));
            }
            let refused = user.refused();
            match latest.plan(now, refused) {
                Plan::Use(token) => return Ok(put(token)),
                Plan::Renew(token) => {
                    self.renew(seat, &user.way);
                    return Ok(put(token));
                }
                Plan::Fail(failure) => return Err(failure.error(now)),
                Plan::Wait => latest.live(now, refused).map(Arc::clone),
            }
        };
        let Some(live) = live else {
            // Boxed, as below: waiting is rare, and would make room in every request's future.
            return Ok(put(&*Box::pin(self.wait(seat, user)).await?));
        };
        // A silent endpoint is as good as one that is down: the last token goes out while it still lives.
        let patience = now + (live.ends - now) / 2;
        match Box::pin(timeout_at(patience, self.wait(seat, user))).await {
            Ok(token) => Ok(put(&*token?)),
            Err(_) => Ok(put(&live)),
        }
    }

    /// The upstream of `user` answered 401 to the token with `stamp`: whether there is another now.
    pub(super) async fn refused(
        self: &Arc<Self>,
        seat: Seat,
        user: &User,
        stamp: Stamp,
    ) -> Result<bool, AuthError> {
        match self.latest.load().judge(stamp, Instant::now()) {
            Verdict::PassOn => return Ok(false),
            Verdict::Refuse(token) => {
                user.refused.store(stamp.0, Ordering::Relaxed);
                token.refuse();
            }
            Verdict::Outdated => {}
        }
        self.with_token(seat, user, |_| true).await
    }

    /// What has been counted.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The token endpoint's host.
    pub(super) fn host(&self) -> &Arc<str> {
        &self.issuer.host
    }

    /// The age of the token that is live for `user` and what is left of its life, if there is one.
    pub(super) fn held(&self, user: &User) -> Option<(Duration, Duration)> {
        let now = Instant::now();
        let latest = self.latest.load();
        latest.live(now, user.refused()).map(|token| (now - token.born, token.ends - now))
    }

    /// Waits for a fetch, our own or one that is under way. It runs as a task of its own, so that it does not die
    /// with the request that began it (a moka init would).
    async fn wait(self: &Arc<Self>, seat: Seat, user: &User) -> Result<Arc<Token<C::Pass>>, AuthError> {
        self.numbers.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = OnDrop(|| _ = self.numbers.waiting.fetch_sub(1, Ordering::Relaxed));
        let (source, way) = (Arc::clone(self), user.way.clone());
        let settled = self.tasks.spawn(async move { source.settle(seat, &way).await }).await;
        let settled = settled
            .ok()
            .and_then(|state| state.settled(Instant::now(), user.refused()).map(Result::<&_, _>::cloned));
        settled.unwrap_or_else(|| {
            let (host, words) = (Arc::clone(&self.issuer.host), "the fetch was cut off".to_owned());
            let (ours, retry_after) = (words.clone(), Duration::from_secs(1));
            Err(AuthError::Unavailable { host, words, ours, retry_after, hopeless: false })
        })
    }

    /// Begins a fetch behind the requests that still use the token, unless one is under way.
    fn renew(self: &Arc<Self>, seat: Seat, way: &Way) {
        if self.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (source, way) = (Arc::clone(self), way.clone());
        let done = Arc::clone(self);
        let done = OnDrop(move || done.renewing.store(false, Ordering::Release));
        drop(self.tasks.spawn(async move {
            source.settle(seat, &way).await;
            drop(done);
        }));
    }

    /// The state when no fetch is due any more: as it is, or after one fetch that all who are here share.
    async fn settle(&self, seat: Seat, way: &Way) -> Arc<State<C::Pass>> {
        let entry = self.states.entry_by_ref(&self.held);
        let due = |state: &Arc<State<C::Pass>>| state.is_due(Instant::now());
        let state = entry.or_insert_with_if(self.fetch(seat, way), due).await.into_value();
        self.publish(&state);
        state
    }

    /// One fetch, and the state after it.
    async fn fetch(&self, seat: Seat, way: &Way) -> Arc<State<C::Pass>> {
        let before = self.states.get(&self.held).await.unwrap_or_default();
        let number = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let born = Instant::now();
        self.numbers.fetches.fetch_add(1, Ordering::Relaxed);
        let asked = way.ask(seat, self.credential()).await;
        let state = match asked.map(|granted| token(number, granted, born)) {
            Ok(token) => {
                let took_ms = u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX);
                let lives_s = (token.ends - born).as_secs();
                tracing::debug!(host = &*self.issuer.host, took_ms, lives_s, "token fetched");
                before.granted(token, Instant::now())
            }
            Err(miss) => self.failed(&before, number, miss, &way.integration),
        };
        let state = Arc::new(state);
        // Before moka lets the next one in, so that no request sees the state before this one afterwards.
        self.publish(&state);
        state
    }

    fn failed(&self, before: &State<C::Pass>, number: u64, miss: Miss, integration: &str) -> State<C::Pass> {
        let now = Instant::now();
        let state = before.failed(number, self.issuer.clone(), miss, now, fastrand::f64());
        if let Some(error) = state.error(now) {
            let words = error.to_string();
            tracing::warn!(integration, live_token = state.is_sound(now), "{words}");
            self.numbers.last_error.store(Some(Arc::new(words)));
        }
        self.numbers.failures.fetch_add(1, Ordering::Relaxed);
        state
    }

    /// Makes `state` the one that requests see, unless they see a later one already.
    fn publish(&self, state: &Arc<State<C::Pass>>) {
        self.latest.rcu(|seen| Arc::clone(if seen.number < state.number { state } else { seen }));
    }
}

fn token<P>(number: u64, granted: Granted<P>, born: Instant) -> Token<P> {
    Token::new(Stamp(number), granted.pass, born, granted.lifetime, fastrand::f64())
}

/// Runs its closure when it goes, however that comes.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use http::HeaderValue;

    use super::super::client::Client;
    use super::super::testing::*;
    use super::super::{AuthStatus, Authorizer, Kind, Tokens};
    use super::*;

    async fn house() -> (Endpoint, Tokens) {
        (Endpoint::granting().await, Tokens::new(Tasks::new()))
    }

    fn source(authorizer: &Authorizer) -> &Arc<Source<Client>> {
        let Kind::OAuth2(bearer) = &authorizer.0 else { panic!("not OAuth2") };
        &bearer.source
    }

    fn numbers(authorizer: &Authorizer) -> (u64, u64, usize) {
        let AuthStatus { token: Some(status), .. } = authorizer.status() else { panic!("not OAuth2") };
        (status.token_fetches, status.token_failures, status.token_waiting)
    }

    /// Makes the token in use as old as `share` of its life of 100 s.
    async fn age(authorizer: &Authorizer, share: f64) {
        hold(authorizer, Duration::from_secs(100), share).await;
    }

    /// Makes a token of `life` the one in use, as old as `share` of it.
    async fn hold(authorizer: &Authorizer, life: Duration, share: f64) {
        let source = source(authorizer);
        let (number, value) =
            (source.serial.fetch_add(1, Ordering::Relaxed) + 1, HeaderValue::from_static("Bearer old"));
        let now = Instant::now();
        let token = Token::new(Stamp(number), value, now - life.mul_f64(share), life, 0.0);
        let state = Arc::new(State::default().granted(token, now));
        source.states.insert(Arc::clone(&source.held), Arc::clone(&state)).await;
        source.publish(&state);
    }

    /// Lets the pause after a failure pass.
    async fn rest(error: &AuthError) {
        tokio::time::sleep(error.retry_after().unwrap()).await;
    }

    async fn waiting(authorizer: &Authorizer, n: usize) {
        while numbers(authorizer).2 < n {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn three_hundred_cold_callers_make_one_call() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.close();
        let callers = join_all((0..300).map(|_| sign(&authorizer)));
        let gate = async {
            waiting(&authorizer, 300).await;
            endpoint.called(1).await;
            endpoint.open();
        };
        let (signed, ()) = tokio::join!(callers, gate);
        let first = signed[0].clone().unwrap();
        assert_eq!(first.0, "Bearer tok-1");
        assert!(signed.into_iter().all(|s| s == Ok(first.clone())));
        assert_eq!(sign(&authorizer).await.unwrap(), first);
        assert_eq!((endpoint.calls(), numbers(&authorizer)), (1, (1, 0, 0)));
    }

    #[tokio::test]
    async fn three_hundred_callers_at_the_end_of_a_token_make_one_call() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        for (share, calls) in [(1.0, 1), (0.95, 2)] {
            age(&authorizer, share).await;
            let signed = join_all((0..300).map(|_| sign(&authorizer))).await;
            assert!(signed.iter().all(|s| s.as_ref().unwrap().0 == format!("Bearer tok-{calls}")), "{share}");
            assert_eq!(endpoint.calls(), calls);
        }
    }

    #[tokio::test]
    async fn a_fetch_outlives_the_caller_that_began_it() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.close();
        tokio::select! {
            biased;
            _ = sign(&authorizer) => panic!("it did not wait"),
            () = endpoint.called(1) => {}
        }
        let gate = async {
            waiting(&authorizer, 1).await;
            endpoint.open();
        };
        let (second, ()) = tokio::join!(sign(&authorizer), gate);
        assert_eq!(second.unwrap().0, "Bearer tok-1");
        assert_eq!((endpoint.calls(), numbers(&authorizer)), (1, (1, 0, 0)));
    }

    #[tokio::test]
    async fn a_token_is_refreshed_behind_the_requests_that_use_it() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        age(&authorizer, 0.85).await;
        endpoint.close();
        for _ in 0..50 {
            assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer old");
        }
        endpoint.called(1).await;
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer old");
        endpoint.open();
        while sign(&authorizer).await.unwrap().0 == "Bearer old" {
            tokio::task::yield_now().await;
        }
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer tok-1");
        assert_eq!(endpoint.calls(), 1);
    }

    #[tokio::test]
    async fn a_live_token_is_used_while_its_endpoint_is_down_and_not_after_its_end() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.say(|_| answer(503, "down"));
        age(&authorizer, 0.95).await;
        for _ in 0..50 {
            assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer old");
        }
        assert_eq!(endpoint.calls(), 1, "the failure is rested on");
        age(&authorizer, 1.0).await;
        let error = sign(&authorizer).await.unwrap_err();
        assert!(error.to_string().contains("it answered 503;"), "{error}");
        assert_eq!(endpoint.calls(), 2);
    }

    #[tokio::test]
    async fn a_token_in_its_leeway_goes_out_before_it_ends_when_its_endpoint_is_silent() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.close();
        // Half of the second that is left is waited for.
        hold(&authorizer, Duration::from_secs(20), 0.95).await;
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer old");
        endpoint.called(1).await;
        assert_eq!(endpoint.calls(), 1);
    }

    #[tokio::test]
    async fn during_an_outage_callers_fail_at_once_and_one_call_is_made_after_each_pause() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.say(|_| answer(503, ""));
        for calls in 1..=2 {
            let failed = join_all((0..300).map(|_| sign(&authorizer))).await;
            assert!(failed.iter().all(|f| matches!(f, Err(AuthError::Unavailable { .. }))));
            assert_eq!((endpoint.calls(), numbers(&authorizer)), (calls, (calls as u64, calls as u64, 0)));
            rest(failed[0].as_ref().unwrap_err()).await;
        }
        endpoint.say(|n| grant(n, 3600));
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer tok-3");
        let AuthStatus { token: Some(status), .. } = authorizer.status() else { panic!("not OAuth2") };
        assert!(status.token_live && status.token_last_error.unwrap().contains("it answered 503"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_words_and_rested_on() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.say(|_| {
            answer(401, "{\"error\":\"invalid_client\",\"error_description\":\"s:e/c&r=t is wrong\"}")
        });
        for _ in 0..20 {
            let error = sign(&authorizer).await.unwrap_err();
            assert!(matches!(error, AuthError::Refused { status: 401, .. }));
            assert!(error.to_string().contains(": invalid_client: *** is wrong; check"), "{error}");
        }
        assert_eq!(endpoint.calls(), 1);
    }

    #[tokio::test]
    async fn a_401_replaces_the_token_once_for_all_who_got_it() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        let (_, stamp) = sign(&authorizer).await.unwrap();
        let verdicts = join_all((0..100).map(|_| authorizer.refused(SEAT, stamp))).await;
        assert!(verdicts.into_iter().all(|v| v == Ok(true)));
        let (token, second) = sign(&authorizer).await.unwrap();
        assert_eq!((token.as_str(), endpoint.calls()), ("Bearer tok-2", 2));
        assert_eq!(authorizer.refused(SEAT, stamp).await, Ok(true), "a late 401 to the first one");
        assert_eq!(authorizer.refused(SEAT, second).await, Ok(false), "the new one is refused too");
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer tok-2");
        assert_eq!(endpoint.calls(), 2);
    }

    #[tokio::test]
    async fn a_401_while_a_refresh_is_under_way_waits_for_that_refresh() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        age(&authorizer, 0.85).await;
        endpoint.close();
        let (_, stamp) = sign(&authorizer).await.unwrap();
        endpoint.called(1).await;
        let gate = async {
            waiting(&authorizer, 2).await;
            endpoint.open();
        };
        let (verdict, signed, ()) = tokio::join!(authorizer.refused(SEAT, stamp), sign(&authorizer), gate);
        assert_eq!((verdict, signed.unwrap().0.as_str()), (Ok(true), "Bearer tok-1"));
        assert_eq!(endpoint.calls(), 1);
    }

    #[tokio::test]
    async fn a_refused_token_is_not_used_again_when_its_endpoint_is_down() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        let (_, stamp) = sign(&authorizer).await.unwrap();
        endpoint.say(|_| answer(503, ""));
        let error = authorizer.refused(SEAT, stamp).await.unwrap_err();
        assert!(sign(&authorizer).await.is_err() && !authorizer.status().token.unwrap().token_live);
        assert_eq!(endpoint.calls(), 2);
        endpoint.say(|n| grant(n, 3600));
        rest(&error).await;
        assert_eq!(authorizer.refused(SEAT, stamp).await, Ok(true));
        assert_eq!(endpoint.calls(), 3);
    }

    #[tokio::test]
    async fn a_token_that_one_upstream_refused_serves_others_while_its_endpoint_is_down() {
        let (endpoint, tokens) = house().await;
        let (refuser, other) = (endpoint.authorizer(&tokens), endpoint.authorizer(&tokens));
        let (_, stamp) = sign(&refuser).await.unwrap();
        endpoint.say(|_| answer(503, ""));
        let error = refuser.refused(SEAT, stamp).await.unwrap_err();
        assert_eq!(sign(&other).await.unwrap(), ("Bearer tok-1".to_owned(), stamp));
        assert!(sign(&refuser).await.is_err());
        let is_live = |one: &Authorizer| one.status().token.unwrap().token_live;
        assert!(is_live(&other) && !is_live(&refuser));
        endpoint.say(|n| grant(n, 3600));
        rest(&error).await;
        let (renewed, _) = sign(&refuser).await.unwrap();
        assert_eq!(sign(&other).await.unwrap().0, renewed);
        assert_eq!(endpoint.calls(), 3);
    }

    #[tokio::test]
    async fn a_token_without_a_lifetime_serves_all_who_wait_for_it_and_nobody_after() {
        let (endpoint, tokens) = house().await;
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.say(|n| grant(n, 0));
        endpoint.close();
        let gate = async {
            waiting(&authorizer, 20).await;
            endpoint.open();
        };
        let (signed, ()) = tokio::join!(join_all((0..20).map(|_| sign(&authorizer))), gate);
        assert!(signed.iter().all(|s| s.as_ref().unwrap().0 == "Bearer tok-1"));
        assert_eq!(sign(&authorizer).await.unwrap().0, "Bearer tok-2");
    }

    #[test]
    fn callers_on_two_runtimes_share_one_fetch() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let main = runtime();
        let (endpoint, tokens) = main.block_on(house());
        let authorizer = endpoint.authorizer(&tokens);
        endpoint.close();
        let tokens = std::thread::scope(|scope| {
            let other = || runtime().block_on(async { sign(&authorizer).await.unwrap().0 });
            let others = [scope.spawn(other), scope.spawn(other)];
            main.block_on(async {
                waiting(&authorizer, 2).await;
                endpoint.called(1).await;
                endpoint.open();
                while others.iter().any(|other| !other.is_finished()) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            others.map(|other| other.join().unwrap())
        });
        assert_eq!(tokens, ["Bearer tok-1", "Bearer tok-1"]);
        assert_eq!(endpoint.calls(), 1);
    }
}
