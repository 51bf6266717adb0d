//! The order in which a process ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_rt::stop::Stop;
use picket_rt::task::{Policy, TaskSet};

#[tokio::test]
async fn a_stage_ends_before_the_next_is_asked_to() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let process = Stop::new();
    let (gateway, storage) = (process.child(), Stop::new());
    let (outer, inner) = (TaskSet::new(process.clone()), TaskSet::new(process.clone()));
    for (name, tasks, stop) in [("storage", &inner, &storage), ("gateway", &outer, &gateway)] {
        let (stop, order) = (stop.clone(), Arc::clone(&order));
        tasks.spawn(name, Policy::Essential, async move {
            stop.requested().await;
            order.lock().unwrap().push(name);
        });
    }
    process.request();
    outer.join_all(Duration::from_secs(30)).await.unwrap();
    assert_eq!(inner.alive(), ["storage"]);
    storage.request();
    inner.join_all(Duration::from_secs(30)).await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["gateway", "storage"]);
    assert_eq!((outer.first_failure(), inner.first_failure()), (None, None));
}

#[tokio::test]
async fn a_signal_is_a_request_to_stop() {
    let stop = Stop::new();
    stop.listen_for_signals().unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    crate::world::soon(stop.requested()).await;
}
