//! Crews with real processes: what calls get, and what becomes of workers that crash, hang, grow, age or do not load.

use std::time::Duration;

use super::testing::{House, ask, call, environment, eventually, lives, restarts, until};
use super::*;

const ECHO: &str = "import os\ndef answer(body): return f'{body} of {os.getpid()}'\n";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn a_call_is_answered_and_a_stop_leaves_nothing_behind() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { workers: 2, ..house.spec() });
    let lease = crew.core.lease().await.unwrap();
    let pid = lease.pid().unwrap();
    assert_eq!(ask(&lease, "hello").await.unwrap(), format!("hello of {pid}"));
    assert_eq!(crew.status().in_flight, 1);
    drop(lease);
    let status =
        until(&crew, |status| status.workers.iter().filter(|w| w.state == WorkerState::Ready).count() == 2)
            .await;
    assert_eq!(
        (status.state, status.generation, status.calls, status.in_flight),
        (CrewState::Ready, 1, 1, 0)
    );
    assert_eq!(status.loaded.unwrap().class, "H");
    assert_eq!(status.files, [house.handlers.path().join("h.py")]);
    assert_eq!(crew.wait_settled(Duration::ZERO), Ok(()));
    house.close(&crew).await;
}

#[tokio::test]
async fn a_worker_serves_once_its_process_is_known_however_late_the_zygote_tells_it() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { environment: environment(&[("STANDIN", "late")]), ..house.spec() });
    let lease = crew.core.lease().await.unwrap();
    let pid = lease.pid().unwrap();
    assert_eq!(ask(&lease, "x").await.unwrap(), format!("x of {pid}"));
    drop(lease);
    house.close(&crew).await;
}

#[tokio::test]
async fn calls_go_to_the_worker_with_the_fewest() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { workers: 2, ..house.spec() });
    until(&crew, |status| status.workers.iter().filter(|w| w.state == WorkerState::Ready).count() == 2).await;
    let (one, two) = (crew.core.lease().await.unwrap(), crew.core.lease().await.unwrap());
    assert_ne!(one.pid(), two.pid());
    drop(one);
    let three = crew.core.lease().await.unwrap();
    assert_ne!(three.pid(), two.pid());
    drop((two, three));
    house.close(&crew).await;
}

#[tokio::test]
async fn a_crash_is_told_as_what_it_was_and_another_worker_takes_over() {
    let house = House::open(
        "import os, signal, time\ndef answer(body):\n    if body == 'exit': os._exit(3)\n    if body == 'fault': os.kill(os.getpid(), signal.SIGSEGV); time.sleep(600)\n    return 'ok'\n",
    );
    let crew = house.crew(house.spec());
    let exited = call(&crew, "exit").await.unwrap_err();
    assert_eq!(exited, HandlerFailure::Crashed("the handler's process exited with code 3".into()));
    assert_eq!(call(&crew, "again").await.unwrap(), "ok");
    let fault = call(&crew, "fault").await.unwrap_err();
    assert!(
        matches!(&fault, HandlerFailure::Crashed(words) if words.contains("SIGSEGV: segmentation fault")),
        "{fault:?}"
    );
    assert_eq!(call(&crew, "again").await.unwrap(), "ok");
    let status = crew.status();
    assert_eq!((restarts(&status, "crash"), status.generation), (2, 1));
    assert!(status.trouble.unwrap().contains("SIGSEGV"));
    house.close(&crew).await;
}

#[tokio::test]
async fn a_call_that_a_process_had_not_accepted_when_it_ended_may_be_sent_again_and_no_successor_takes_it() {
    let house = House::open(
        "import os, sys\nBLOCKS = True\nCALLS = os.path.join(sys.path[0], 'calls')\ndef answer(body):\n    if body == 'calls': return open(CALLS).read()\n    open(CALLS, 'a').write(body + ' ')\n    if body == 'exit': os._exit(3)\n    return 'ok'\n",
    );
    let crew = house.crew(house.spec());
    let (first, second) = (crew.core.lease().await.unwrap(), crew.core.lease().await.unwrap());
    let (first, second) = tokio::join!(ask(&first, "exit"), async {
        // Its connection is made while the first is being answered, or shortly after: either way nobody reads it
        // before the process has gone.
        ask(&second, "second").await
    });
    assert!(matches!(first, Err(HandlerFailure::Crashed(_))), "{first:?}");
    assert!(matches!(second, Err(HandlerFailure::Unreachable(_))), "{second:?}");
    assert_eq!(call(&crew, "third").await.unwrap(), "ok");
    assert_eq!(call(&crew, "calls").await.unwrap(), "exit third ");
    house.close(&crew).await;
}

#[tokio::test]
async fn a_blocked_loop_gets_no_more_calls_and_one_that_hangs_is_killed_and_replaced() {
    let house = House::open(
        "import time\nBLOCKS = True\ndef answer(body):\n    if body == 'hang':\n        while True: time.sleep(1)\n    return 'ok'\n",
    );
    // Long enough for the call that is answered in the end, on whatever machine.
    let spec = Spec { request_timeout: secs(2), queue_timeout: Duration::ZERO, ..house.spec() };
    let crew = house.crew(spec);
    let lease = crew.core.lease().await.unwrap();
    let pid = lease.pid().unwrap();
    let late = ask(&lease, "hang").await.unwrap_err();
    assert!(matches!(&late, HandlerFailure::TimedOut(words) if words.contains("2s")), "{late:?}");
    drop(lease);
    until(&crew, |status| status.workers[0].state == WorkerState::Blocked).await;
    assert_eq!(crew.core.lease().await.unwrap_err(), Absent::Busy { most: 64 });
    let status = until(&crew, |status| restarts(status, "hang") == 1).await;
    assert!(status.trouble.unwrap().contains("its event loop was blocked"));
    assert!(!lives(pid));
    assert_eq!(call(&crew, "ok").await.unwrap(), "ok");
    house.close(&crew).await;
}

#[tokio::test]
async fn a_worker_that_takes_too_much_memory_is_ended_and_its_calls_learn_why() {
    let house = House::open(
        "import time\nhoard = []\ndef answer(body):\n    if body == 'hog':\n        hoard.append(bytearray(b'x' * (200 << 20)))\n        time.sleep(600)\n    return 'ok'\n",
    );
    let crew = house.crew(Spec { memory: 100 << 20, ..house.spec() });
    let ended = call(&crew, "hog").await.unwrap_err();
    assert!(
        matches!(&ended, HandlerFailure::Crashed(words) if words.contains("more than 100 MiB (handlers.memory)")),
        "{ended:?}"
    );
    assert_eq!(call(&crew, "more").await.unwrap(), "ok");
    assert_eq!(restarts(&crew.status(), "memory"), 1);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_worker_that_has_served_its_share_is_replaced_without_a_call_lost() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { max_requests: 3, ..house.spec() });
    let held = crew.core.lease().await.unwrap();
    let old = held.pid().unwrap();
    for _ in 0..4 {
        call(&crew, "x").await.unwrap();
    }
    until(&crew, |status| restarts(status, "max_requests") == 1).await;
    let next = crew.core.lease().await.unwrap();
    assert_ne!(next.pid().unwrap(), old);
    assert_eq!(ask(&held, "still").await.unwrap(), format!("still of {old}"), "what it has it ends");
    drop((held, next));
    eventually(|| async { !lives(old) }).await;
    house.close(&crew).await;
}

#[tokio::test]
async fn stuck_threads_have_their_worker_replaced() {
    let house =
        House::open(&format!("{ECHO}STATUS.sendall(b'garbage\\n{{\"stuck\": 3, \"threads\": 4}}\\n')\n"));
    let crew = house.crew(house.spec());
    until(&crew, |status| restarts(status, "stuck_threads") >= 1).await;
    house.close(&crew).await;
}

#[tokio::test]
async fn where_all_places_are_taken_the_first_to_come_is_the_first_served() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { max_in_flight: 1, ..house.spec() });
    let held = crew.core.lease().await.unwrap();
    let (first, second) = (crew.core.lease(), crew.core.lease());
    tokio::pin!(first, second);
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    assert_eq!(crew.status().waiting, 2);
    drop(held);
    assert!(futures_util::poll!(&mut second).is_pending(), "the other came first");
    let lease = first.await.unwrap();
    drop(lease);
    drop(second.await.unwrap());
    assert_eq!(crew.status().waiting, 0);
    house.close(&crew).await;
}

#[tokio::test]
async fn one_that_leaves_the_queue_does_not_keep_the_others_from_being_served() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { max_in_flight: 1, ..house.spec() });
    let held = crew.core.lease().await.unwrap();
    let second = {
        let first = crew.core.lease();
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(crew.core.lease());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(held);
        second
    };
    drop(second.await.unwrap());
    house.close(&crew).await;
}

#[tokio::test]
async fn who_waits_too_long_is_told_what_for() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { max_in_flight: 2, queue_timeout: millis(50), ..house.spec() });
    let held = (crew.core.lease().await.unwrap(), crew.core.lease().await.unwrap());
    assert_eq!(crew.core.lease().await.unwrap_err(), Absent::Busy { most: 2 });
    drop(held);
    house.write("h.py", "import time\ntime.sleep(600)\n");
    let slow = house.workers.crew("slow", Spec { start_wait: millis(50), ..house.spec() }).unwrap();
    assert_eq!(slow.core.lease().await.unwrap_err(), Absent::Starting);
    assert!(slow.wait_settled(millis(10)).unwrap_err().contains("was not ready within 10ms"));
    house.close(&crew).await;
}

#[tokio::test]
async fn the_wait_for_a_start_does_not_count_as_a_wait_for_a_place() {
    let house = House::open(&format!("import time\ntime.sleep(0.5)\n{ECHO}"));
    let crew = house.crew(Spec { queue_timeout: millis(200), ..house.spec() });
    let leases = futures_util::future::join_all((0..8).map(|_| crew.core.lease())).await;
    assert!(leases.iter().all(Result::is_ok), "{leases:?}");
    drop(leases);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_handler_that_does_not_load_fails_after_three_tries_until_a_file_changes() {
    let house = House::open("import helper\n");
    let spec = house.spec();
    let crew = house.crew(spec.clone());
    let Absent::Failed(why) = crew.core.lease().await.unwrap_err() else { panic!("it does not load") };
    assert!(why.contains("No module named 'helper'"), "{why}");
    let status = crew.status();
    assert_eq!((status.state.clone(), restarts(&status, "load")), (CrewState::Failed(why.clone()), 3));
    assert_eq!(crew.wait_settled(secs(60)), Err(why.clone()));
    crew.renew(spec.clone());
    assert_eq!(crew.status().state, CrewState::Failed(why), "nothing has changed");
    house.write("helper.py", "x = 1\n");
    house.write("h.py", &format!("import helper\n{ECHO}"));
    crew.renew(spec);
    assert!(call(&crew, "x").await.is_ok());
    assert!(crew.watched().contains(&house.handlers.path().join("helper.py")));
    house.close(&crew).await;
}

#[tokio::test]
async fn a_handler_that_has_served_fails_too_once_its_files_have_changed_and_do_not_load() {
    let house = House::open("import os\ndef answer(body): os._exit(3)\n");
    let crew = house.crew(house.spec());
    drop(crew.core.lease().await.unwrap());
    house.write("h.py", "import nothing_of_this_name\n");
    assert!(call(&crew, "exit").await.is_err());
    let status = until(&crew, |status| matches!(status.state, CrewState::Failed(_))).await;
    assert!(
        matches!(&status.state, CrewState::Failed(why) if why.contains("nothing_of_this_name")),
        "{status:?}"
    );
    assert!(matches!(crew.core.lease().await, Err(Absent::Failed(_))));
    crew.renew(house.spec());
    assert!(matches!(crew.status().state, CrewState::Failed(_)), "nothing has changed since the last try");
    house.write("h.py", ECHO);
    crew.renew(house.spec());
    assert!(call(&crew, "x").await.is_ok());
    assert_eq!(crew.status().state, CrewState::Ready);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_handler_that_has_served_from_its_files_is_tried_on_and_not_ready_until_one_loads() {
    let house = House::open(
        "import os, sys\nif os.path.exists(os.path.join(sys.path[0], 'down')): raise OSError('it is down')\ndef answer(body):\n    if body == 'exit': os._exit(3)\n    return 'ok'\n",
    );
    let crew = house.crew(house.spec());
    assert_eq!(call(&crew, "x").await.unwrap(), "ok");
    let down = house.write("down", "");
    assert!(call(&crew, "exit").await.is_err());
    let status = until(&crew, |status| restarts(status, "load") >= 4).await;
    assert_eq!(status.state, CrewState::Starting);
    assert!(status.trouble.is_some_and(|trouble| trouble.contains("it is down")));
    std::fs::remove_file(down).unwrap();
    assert_eq!(call(&crew, "x").await.unwrap(), "ok");
    assert_eq!(crew.status().state, CrewState::Ready);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_file_that_may_not_be_loaded_starts_no_process() {
    let house = House::open(ECHO);
    let crew = house.crew(Spec { file_name: "gone.py".into(), ..house.spec() });
    let Absent::Failed(why) = crew.core.lease().await.unwrap_err() else { panic!("there is none") };
    assert!(why.contains("gone.py cannot be read"), "{why}");
    assert_eq!(crew.status().workers, []);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_changed_file_makes_a_new_generation_and_the_old_one_ends_its_calls() {
    let house = House::open("import helper\ndef answer(body): return helper.WORD\n");
    house.write("helper.py", "WORD = 'one'\n");
    let spec = house.spec();
    let crew = house.crew(spec.clone());
    let held = crew.core.lease().await.unwrap();
    let old = held.pid().unwrap();
    crew.renew(spec.clone());
    assert_eq!(crew.wait_settled(Duration::ZERO), Ok(()), "nothing has changed");
    house.write("helper.py", "WORD = 'two'\n");
    crew.renew(spec.clone());
    let status = until(&crew, |status| status.generation == 2).await;
    assert_eq!(status.workers.len(), 2);
    assert_eq!(call(&crew, "x").await.unwrap(), "two");
    assert_eq!(ask(&held, "x").await.unwrap(), "one");
    drop(held);
    eventually(|| async { !lives(old) }).await;
    crew.renew(Spec { class_name: "Other".into(), ..spec });
    let status = until(&crew, |status| status.generation == 3).await;
    assert_eq!(status.loaded.unwrap().class, "Other");
    assert_eq!(status.restarts.iter().map(|(_, count)| count).sum::<u64>(), 0);
    house.close(&crew).await;
}

#[tokio::test]
async fn a_broken_edit_leaves_the_old_generation_and_says_why_until_it_is_taken_back() {
    let house = House::open(ECHO);
    let spec = house.spec();
    let crew = house.crew(spec.clone());
    let pid = crew.core.lease().await.unwrap().pid();
    house.write("h.py", "def broken(:\n");
    crew.renew(spec.clone());
    let status = until(&crew, |status| status.stale.is_some()).await;
    assert!(status.stale.unwrap().contains("SyntaxError"));
    assert_eq!((status.state, status.generation), (CrewState::Ready, 1));
    assert!(crew.wait_settled(Duration::ZERO).unwrap_err().contains("SyntaxError"));
    assert_eq!(crew.core.lease().await.unwrap().pid(), pid);
    house.write("h.py", ECHO);
    crew.renew(spec);
    let status = crew.status();
    assert_eq!((status.stale, status.generation), (None, 1));
    assert_eq!(crew.core.lease().await.unwrap().pid(), pid);
    house.close(&crew).await;
}

#[tokio::test]
async fn an_interpreter_that_cannot_run_handlers_is_told_with_its_remedy() {
    let house = House::open(ECHO);
    let with = |mode: &str| Spec { environment: environment(&[("STANDIN", mode)]), ..house.spec() };
    let crew = house.crew(with("missing"));
    let why = crew.wait_settled(secs(60)).unwrap_err();
    assert!(
        why.contains("litellm is not installed for /") && why.contains("-m pip install litellm=="),
        "{why}"
    );
    let missing = house.workers.crew("b", Spec { python: "no-such-python".into(), ..house.spec() }).unwrap();
    let why = missing.wait_settled(secs(60)).unwrap_err();
    assert!(why.contains("no-such-python was not found") && why.contains("handlers.python"), "{why}");
    let exits = house.workers.crew("c", with("exit")).unwrap();
    let why = exits.wait_settled(secs(60)).unwrap_err();
    assert!(why.contains("exited with code 7 before it was ready"), "{why}");
    let mute = house.workers.crew("d", Spec { start_timeout: millis(100), ..with("mute") }).unwrap();
    let why = mute.wait_settled(secs(60)).unwrap_err();
    assert!(why.contains("had not imported litellm within 100ms"), "{why}");
    house.close(&crew).await;
}

#[tokio::test]
async fn a_failure_for_want_of_packages_is_tried_again_when_some_are_installed() {
    let house = House::open(ECHO);
    let prefix = tempfile::tempdir().unwrap();
    let site = prefix.path().join("lib/python3.11/site-packages");
    std::fs::create_dir_all(&site).unwrap();
    let at = prefix.path().to_str().unwrap();
    let spec = Spec { environment: environment(&[("STANDIN", "missing"), ("PREFIX", at)]), ..house.spec() };
    let crew = house.crew(spec.clone());
    assert!(crew.wait_settled(secs(60)).is_err());
    crew.renew(spec.clone());
    assert!(crew.wait_settled(Duration::ZERO).unwrap_err().contains("not installed"), "nothing has changed");
    std::fs::create_dir(site.join("litellm-1.0.dist-info")).unwrap();
    crew.renew(spec);
    assert!(crew.wait_settled(Duration::ZERO).unwrap_err().contains("was not ready within"), "it tries");
    house.close(&crew).await;
}

#[tokio::test]
async fn a_handler_that_takes_too_long_to_load_is_given_up() {
    let house = House::open(ECHO);
    // The interpreter is there already: the limit, which counts for it too, is met by nothing but the handler.
    let other = house.workers.crew("other", house.spec()).unwrap();
    drop(other.core.lease().await.unwrap());
    house.write("h.py", "import time\ntime.sleep(600)\n");
    let crew = house.crew(Spec { start_timeout: millis(300), ..house.spec() });
    let Absent::Failed(why) = crew.core.lease().await.unwrap_err() else { panic!("it never loads") };
    assert!(why.contains("was not ready within 300ms (handlers.start_timeout)"), "{why}");
    assert_eq!(restarts(&crew.status(), "start_timeout"), 3);
    house.close(&crew).await;
}

#[tokio::test]
async fn workers_outlive_their_zygote_and_a_new_one_is_started_when_it_is_needed() {
    let house = House::open(
        "import os, signal\ndef answer(body):\n    if body == 'zygote': os.kill(os.getppid(), signal.SIGKILL)\n    if body == 'exit': os._exit(5)\n    return str(os.getpid())\n",
    );
    let crew = house.crew(house.spec());
    let pid = call(&crew, "zygote").await.unwrap();
    assert_eq!(call(&crew, "x").await.unwrap(), pid);
    let ended = call(&crew, "exit").await.unwrap_err();
    assert_eq!(ended, HandlerFailure::Crashed("the handler's process exited with code 5".into()));
    assert_ne!(call(&crew, "x").await.unwrap(), pid);
    eventually(|| async { !lives(pid.parse().unwrap()) }).await;
    house.close(&crew).await;
}

#[tokio::test]
async fn a_zygote_that_does_not_do_what_it_is_asked_is_replaced_with_the_worker_that_it_kept() {
    let house = House::open(
        "import os, signal, time\nhoard = []\ndef answer(body):\n    if body == 'hog':\n        os.kill(os.getppid(), signal.SIGSTOP)\n        hoard.append(bytearray(b'x' * (200 << 20)))\n        time.sleep(600)\n    return str(os.getpid())\n",
    );
    let crew = house.crew(Spec { memory: 100 << 20, ..house.spec() });
    let pid: u32 = call(&crew, "x").await.unwrap().parse().unwrap();
    let ended = call(&crew, "hog").await.unwrap_err();
    assert!(
        matches!(&ended, HandlerFailure::Crashed(words) if words.contains("handlers.memory")),
        "{ended:?}"
    );
    assert_ne!(call(&crew, "x").await.unwrap(), pid.to_string());
    eventually(|| async { !lives(pid) }).await;
    house.close(&crew).await;
}

#[tokio::test]
async fn what_a_handler_has_started_goes_with_it() {
    let house = House::open(
        "import os, subprocess\nchild = subprocess.Popen(['sleep', '600'])\ndef answer(body):\n    if body == 'exit': os._exit(0)\n    return str(child.pid)\n",
    );
    let crew = house.crew(house.spec());
    let child: u32 = call(&crew, "x").await.unwrap().parse().unwrap();
    assert!(lives(child));
    assert!(call(&crew, "exit").await.is_err());
    eventually(|| async { !lives(child) }).await;
    let child: u32 = call(&crew, "x").await.unwrap().parse().unwrap();
    house.close(&crew).await;
    eventually(|| async { !lives(child) }).await;
}

#[tokio::test]
async fn a_worker_that_closes_its_line_is_replaced() {
    let house = House::open(
        "import os\ndef answer(body):\n    if body == 'close': STATUS.shutdown(1)\n    return str(os.getpid())\n",
    );
    let crew = house.crew(house.spec());
    let pid: u32 = call(&crew, "close").await.unwrap().parse().unwrap();
    eventually(|| async { !lives(pid) }).await;
    assert_ne!(call(&crew, "x").await.unwrap(), pid.to_string());
    house.close(&crew).await;
}

#[tokio::test]
async fn a_crew_that_nobody_holds_ends_its_calls_and_then_its_processes() {
    let house = House::open(ECHO);
    let crew = house.crew(house.spec());
    let lease = crew.core.lease().await.unwrap();
    let pid = lease.pid().unwrap();
    drop(crew);
    assert_eq!(ask(&lease, "last").await.unwrap(), format!("last of {pid}"));
    drop(lease);
    eventually(|| async { !lives(pid) }).await;
    let again = house.crew(house.spec());
    assert_ne!(again.core.lease().await.unwrap().pid(), Some(pid));
    house.close(&again).await;
}

#[tokio::test]
async fn a_stop_waits_for_calls_as_long_as_it_may_and_no_longer() {
    let house = House::open("import time\ndef answer(body):\n    time.sleep(600)\n");
    let crew = house.crew(house.spec());
    let lease = crew.core.lease().await.unwrap();
    let pid = lease.pid().unwrap();
    let (answer, ()) = tokio::join!(ask(&lease, "x"), house.workers.stop(millis(200)));
    assert!(matches!(answer, Err(HandlerFailure::Crashed(_))), "{answer:?}");
    assert!(!lives(pid));
    assert_eq!(crew.core.lease().await.unwrap_err(), Absent::Stopping);
    assert!(house.workers.crew("other", house.spec()).unwrap_err().contains("being stopped"));
}

#[tokio::test]
async fn the_secrets_of_a_spec_are_in_no_argument_no_environment_and_no_debug_line() {
    let house = House::open(
        "def answer(body):\n    return open('/proc/self/cmdline').read() + open('/proc/self/environ').read()\n",
    );
    let init_kwargs = serde_json::from_str("{\"token\": \"hush-hush\"}").unwrap();
    let spec = Spec { init_kwargs, environment: environment(&[("KEY", "whisper")]), ..house.spec() };
    let shown = format!("{spec:?}");
    assert!(shown.contains("token") && !shown.contains("hush") && !shown.contains("whisper"), "{shown}");
    let crew = house.crew(spec);
    let seen = call(&crew, "x").await.unwrap();
    assert!(seen.contains("whisper") && !seen.contains("hush"), "{seen}");
    let allowed =
        ["PATH", "PYTHONDONTWRITEBYTECODE", "KEY", "LITELLM_LOCAL_MODEL_COST_MAP", "LITELLM_OFFLINE_MODE"];
    let names: Vec<&str> =
        seen.split('\0').filter_map(|entry| entry.split_once('=')).map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
    assert!(!format!("{crew:?}{:?}", house.workers).contains("hush"));
    house.close(&crew).await;
}
