//! What is known of one credential after its latest fetch, and what that means at a given moment. Pure: time and
//! chance come in as values.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Trouble;
use super::credential::Issuer;
use super::error::AuthError;
use super::fetch::Miss;
use crate::outbound::Stamp;

/// The refresh begins between these shares of a token's lifetime, at a random point, so that many sidecars that
/// started together do not ask together.
const REFRESH_FROM: f64 = 0.80;
const REFRESH_SPREAD: f64 = 0.08;
/// From this share on a request waits for the successor: the last 7 % are the leeway for clocks and the way there.
const STALE_FROM: f64 = 0.93;

/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The share of a pause that chance may take off. Small, so that five tries never fit into less than 7 s.
const PAUSE_JITTER: f64 = 0.05;

/// That of no token: fetches are counted from 1.
pub(super) const NONE: Stamp = Stamp(0);

/// After a renewal for a 401, a further 401 is passed on for this long.
const RENEWAL_REST: Duration = Duration::from_secs(30);

/// A token, ready to be put on requests. Immutable but for the mark that an upstream refused it.
pub(super) struct Token<P> {
    /// The number of its fetch.
    pub(super) stamp: Stamp,
    /// What is put on.
    pub(super) pass: P,
    /// When it was asked for: its age counts from there, since the endpoint may have made it at any time after.
    pub(super) born: Instant,
    /// From here on it is refreshed behind the requests that still use it.
    refresh_at: Instant,
    /// From here on requests wait for its successor.
    stale_at: Instant,
    /// From here on it is not used.
    pub(super) ends: Instant,
    refused: AtomicBool,
}

impl<P> Token<P> {
    /// A token that was asked for at `born`; `chance` is from 0 to 1.
    pub(super) fn new(stamp: Stamp, pass: P, born: Instant, lifetime: Duration, chance: f64) -> Self {
        Self {
            stamp,
            pass,
            born,
            refresh_at: born + lifetime.mul_f64(REFRESH_FROM + REFRESH_SPREAD * chance),
            stale_at: born + lifetime.mul_f64(STALE_FROM),
            ends: born + lifetime,
            refused: AtomicBool::new(false),
        }
    }

    /// Notes that an upstream answered 401 to it: another is fetched.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A fetch that failed, and how long callers are spared the next.
#[derive(Clone)]
pub(super) struct Failure {
    issuer: Issuer,
    trouble: Trouble,
    run: u32,
    until: Instant,
}

impl Failure {
    /// The error as it stands at `now`.
    pub(super) fn error(&self, now: Instant) -> AuthError {
        let Issuer { host, proof } = self.issuer.clone();
        match self.trouble.clone() {
            Trouble::Refused { status, error, description } => {
                AuthError::Refused { host, proof, status, error, description }
            }
            Trouble::Unavailable { words, ours, hopeless } => {
                let retry_after = self.until.saturating_duration_since(now);
                AuthError::Unavailable { host, words, ours, retry_after, hopeless }
            }
        }
    }
}

/// What is known of one credential after its latest fetch. A fetch makes a new one.
pub(super) struct State<P> {
    /// The number of the fetch that made it; 0 before the first.
    pub(super) number: u64,
    token: Option<Arc<Token<P>>>,
    failure: Option<Failure>,
    renewed: Option<Instant>,
}

/// What a request has to do.
pub(super) enum Plan<'a, P> {
    /// Use this token.
    Use(&'a Arc<Token<P>>),
    /// Use this token, and have it refreshed behind the request.
    Renew(&'a Arc<Token<P>>),
    /// Wait for a fetch.
    Wait,
    /// Give up at once: the last fetch failed a moment ago.
    Fail(&'a Failure),
}

/// What an upstream's 401 to a request with a given stamp means.
pub(super) enum Verdict<'a, P> {
    /// The token has been replaced since, or is being fetched: send once more with what comes.
    Outdated,
    /// It is still the one in use: refuse it and fetch another.
    Refuse(&'a Token<P>),
    /// Another was fetched for this reason a moment ago: the 401 is the caller's to see.
    PassOn,
}

impl<P> Default for State<P> {
    fn default() -> Self {
        Self { number: 0, token: None, failure: None, renewed: None }
    }
}

impl<P> State<P> {
    /// The token if it needs no thought at `now`: the one comparison of the hot path.
    pub(super) fn fresh(&self, now: Instant) -> Option<&Arc<Token<P>>> {
        self.token.as_ref().filter(|token| now < token.refresh_at && !token.is_refused())
    }

    /// The token if it may be used at `now` where the one of `refused` was refused. That of others may: who is refused by
    /// one upstream may still be let in by another, and while no successor can be had it is all that there is.
    pub(super) fn live(&self, now: Instant, refused: Stamp) -> Option<&Arc<Token<P>>> {
        self.token.as_ref().filter(|token| now < token.ends && token.stamp != refused)
    }

    /// Whether there is a token at `now` that nobody has refused.
    pub(super) fn is_sound(&self, now: Instant) -> bool {
        self.token.as_ref().is_some_and(|token| now < token.ends && !token.is_refused())
    }

    /// What the latest fetch failed of, as it stands at `now`.
    pub(super) fn error(&self, now: Instant) -> Option<AuthError> {
        self.failure.as_ref().map(|failure| failure.error(now))
    }

    /// What a request has to do at `now` whose upstream has refused the token of `refused`.
    pub(super) fn plan(&self, now: Instant, refused: Stamp) -> Plan<'_, P> {
        let resting = self.failure.as_ref().filter(|failure| now < failure.until);
        match (self.live(now, refused), resting) {
            (Some(token), _) if now < token.refresh_at && !token.is_refused() => Plan::Use(token),
            (Some(token), Some(_)) => Plan::Use(token),
            // A failure says that the endpoint is down: nobody waits for it while the token lives.
            (Some(token), None) if now < token.stale_at || self.failure.is_some() => Plan::Renew(token),
            (None, Some(failure)) => Plan::Fail(failure),
            (_, None) => Plan::Wait,
        }
    }

    /// Whether a fetch is due at `now`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.plan(now, NONE), Plan::Renew(_) | Plan::Wait)
    }

    /// What those get who waited for the fetch that made this state, and whose upstream has refused the token of
    /// `refused`. One that came with no lifetime serves them and nobody after them.
    pub(super) fn settled(&self, now: Instant, refused: Stamp) -> Option<Result<&Arc<Token<P>>, AuthError>> {
        match &self.failure {
            Some(failure) => Some(self.live(now, refused).ok_or_else(|| failure.error(now))),
            None => self.token.as_ref().map(Ok),
        }
    }

    /// What a 401 to a request with `stamp` means at `now`.
    pub(super) fn judge(&self, stamp: Stamp, now: Instant) -> Verdict<'_, P> {
        match &self.token {
            Some(token) if token.stamp == stamp => match self.renewed {
                Some(at) if now < at + RENEWAL_REST => Verdict::PassOn,
                _ => Verdict::Refuse(token),
            },
            _ => Verdict::Outdated,
        }
    }

    /// The state after a fetch that gave `token` at `now`.
    pub(super) fn granted(&self, token: Token<P>, now: Instant) -> Self {
        let was_refused = self.token.as_ref().is_some_and(|token| token.is_refused());
        let renewed = if was_refused { Some(now) } else { self.renewed };
        Self { number: token.stamp.0, token: Some(Arc::new(token)), failure: None, renewed }
    }

    /// The state after the fetch `number` that failed at `now`: the token stays, for as long as it lives. The next fetch
    /// waits as long as the endpoint asked for, and never less than the pause. `chance` is from 0 to 1.
    pub(super) fn failed(
        &self,
        number: u64,
        issuer: Issuer,
        Miss { trouble, rest }: Miss,
        now: Instant,
        chance: f64,
    ) -> Self {
        let run = self.failure.as_ref().map_or(1, |failure| failure.run.saturating_add(1));
        let until = now + pause(run, chance).max(rest.unwrap_or_default());
        let failure = Some(Failure { issuer, trouble, run, until });
        Self { number, token: self.token.clone(), failure, renewed: self.renewed }
    }
}

/// The pause after the `run`th failure in a row. Chance only shortens it.
fn pause(run: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << run.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - PAUSE_JITTER * chance)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::super::credential::Proof;
    use super::*;

    type Token = super::Token<HeaderValue>;
    type State = super::State<HeaderValue>;

    const PROOF: Proof = Proof { name: "proof", check: "it" };
    const HOUR: Duration = Duration::from_secs(3600);

    fn after(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn token(number: u64, born: Instant, lifetime: Duration) -> Token {
        Token::new(Stamp(number), HeaderValue::from_static("Bearer t"), born, lifetime, 0.5)
    }

    fn holding(born: Instant, lifetime: Duration) -> State {
        State::default().granted(token(1, born, lifetime), born)
    }

    fn down(state: &State, now: Instant) -> State {
        down_for(state, now, None)
    }

    fn down_for(state: &State, now: Instant, rest: Option<Duration>) -> State {
        let issuer = Issuer { host: "idp".into(), proof: &PROOF };
        let miss = Miss { trouble: Trouble::unavailable("it answered 503"), rest };
        state.failed(9, issuer, miss, now, 0.0)
    }

    fn word(plan: &Plan<'_, HeaderValue>) -> &'static str {
        match plan {
            Plan::Use(_) => "use",
            Plan::Renew(_) => "renew",
            Plan::Wait => "wait",
            Plan::Fail(_) => "fail",
        }
    }

    #[test]
    fn a_token_is_used_then_renewed_behind_then_waited_for_then_dead() {
        let born = Instant::now();
        let state = holding(born, HOUR);
        for (share, want) in
            [(0.0, "use"), (0.79, "use"), (0.89, "renew"), (0.92, "renew"), (0.94, "wait"), (1.1, "wait")]
        {
            assert_eq!(word(&state.plan(born + HOUR.mul_f64(share), NONE)), want, "at {share}");
        }
        assert_eq!(word(&State::default().plan(born, NONE)), "wait");
    }

    #[test]
    fn a_live_token_is_used_through_an_outage_until_it_really_ends() {
        let born = Instant::now();
        let failed_at = born + HOUR.mul_f64(0.9);
        let state = down(&holding(born, HOUR), failed_at);
        assert_eq!(word(&state.plan(failed_at, NONE)), "use", "while the endpoint rests");
        assert_eq!(word(&state.plan(failed_at + after(1.0), NONE)), "renew", "after the pause");
        assert_eq!(
            word(&state.plan(born + HOUR - after(0.1), NONE)),
            "renew",
            "nobody waits in the leeway of an outage"
        );
        assert_eq!(word(&state.plan(born + HOUR, NONE)), "wait", "a dead token is not used");
        let dead = down(&state, born + HOUR);
        assert_eq!(word(&dead.plan(born + HOUR, NONE)), "fail");
        assert!(dead.settled(born + HOUR, NONE).unwrap().is_err());
        assert!(state.settled(failed_at, NONE).unwrap().is_ok());
    }

    #[test]
    fn callers_fail_at_once_with_the_time_that_is_left() {
        let now = Instant::now();
        let state = down(&State::default(), now);
        let Plan::Fail(failure) = state.plan(now + after(0.1), NONE) else { panic!("it does not rest") };
        assert_eq!(failure.error(now + after(0.1)).retry_after(), Some(Duration::from_millis(150)));
        assert_eq!(word(&state.plan(now + after(0.25), NONE)), "wait");
    }

    #[test]
    fn pauses_double_to_five_seconds_and_a_success_ends_the_run() {
        let now = Instant::now();
        let mut state = State::default();
        for want in [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0] {
            state = down(&state, now);
            assert_eq!(state.failure.as_ref().unwrap().until, now + after(want));
        }
        state = down(&state.granted(token(2, now, HOUR), now), now);
        assert_eq!(state.failure.as_ref().unwrap().until, now + FIRST_PAUSE);
        assert!(pause(u32::MAX, 0.0) == LONGEST_PAUSE);
    }

    #[test]
    fn an_endpoint_that_asks_to_be_left_alone_is_and_never_for_less_than_the_pause() {
        let now = Instant::now();
        let state = down_for(&State::default(), now, Some(after(7.0)));
        assert_eq!(state.error(now).unwrap().retry_after(), Some(after(7.0)));
        assert_eq!(word(&state.plan(now + after(6.9), NONE)), "fail");
        assert_eq!(word(&state.plan(now + after(7.0), NONE)), "wait");
        let again = down_for(&state, now + after(7.0), Some(after(0.0)));
        assert_eq!(again.error(now + after(7.0)).unwrap().retry_after(), Some(after(0.5)));
    }

    #[test]
    fn a_refused_token_is_replaced_once_and_then_left_alone_for_thirty_seconds() {
        let now = Instant::now();
        let state = holding(now, HOUR);
        let Verdict::Refuse(refused) = state.judge(Stamp(1), now) else { panic!("not refused") };
        refused.refuse();
        assert_eq!(word(&state.plan(now, Stamp(1))), "wait");
        assert_eq!(word(&state.plan(now, NONE)), "renew", "another upstream may take it meanwhile");
        let state = state.granted(token(2, now, HOUR), now);
        assert!(matches!(state.judge(Stamp(1), now), Verdict::Outdated));
        assert!(matches!(state.judge(Stamp(2), now + after(29.9)), Verdict::PassOn));
        assert_eq!(word(&state.plan(now + after(1.0), NONE)), "use", "it is not thrown away meanwhile");
        assert!(matches!(state.judge(Stamp(2), now + after(30.0)), Verdict::Refuse(_)));
    }

    #[test]
    fn a_renewal_that_took_two_tries_still_counts_as_one_for_a_401() {
        let now = Instant::now();
        let state = holding(now, HOUR);
        if let Verdict::Refuse(refused) = state.judge(Stamp(1), now) {
            refused.refuse();
        }
        let state = down(&state, now);
        assert_eq!(word(&state.plan(now, Stamp(1))), "fail", "a refused token is no help in an outage");
        assert_eq!(word(&state.plan(now, NONE)), "use", "but to whom nobody has refused it");
        assert_eq!(word(&state.plan(now + after(1.0), NONE)), "renew", "after the pause");
        assert!(state.settled(now, NONE).unwrap().is_ok() && state.settled(now, Stamp(1)).unwrap().is_err());
        assert_eq!(word(&state.plan(now + HOUR, NONE)), "wait");
        let state = state.granted(token(3, now, HOUR), now);
        assert!(matches!(state.judge(Stamp(3), now), Verdict::PassOn));
    }

    #[test]
    fn a_token_without_a_lifetime_serves_those_who_waited_and_nobody_else() {
        let now = Instant::now();
        let state = holding(now, Duration::ZERO);
        assert!(state.settled(now + after(1.0), NONE).unwrap().is_ok());
        assert_eq!(word(&state.plan(now, NONE)), "wait");
    }

    proptest! {
        #[test]
        fn no_chance_makes_a_token_used_in_its_last_twentieth(chance in 0.0..=1.0f64, millis in 1u64..86_400_000) {
            let (born, lifetime) = (Instant::now(), Duration::from_millis(millis));
            let token = Token::new(Stamp(1), HeaderValue::from_static("t"), born, lifetime, chance);
            prop_assert!(token.refresh_at >= born + lifetime.mul_f64(0.79));
            prop_assert!(token.refresh_at < token.stale_at);
            prop_assert!(token.stale_at <= born + lifetime.mul_f64(0.95));
            let state = State::default().granted(token, born);
            prop_assert!(matches!(state.plan(born + lifetime.mul_f64(0.95), NONE), Plan::Wait));
        }

        #[test]
        fn at_most_five_tries_fit_into_the_first_seven_seconds(chances in prop::collection::vec(0.0..=1.0f64, 5)) {
            let total: Duration = (1..).zip(&chances).map(|(run, chance)| pause(run, *chance)).sum();
            prop_assert!(total > Duration::from_secs(7));
        }
    }
}
