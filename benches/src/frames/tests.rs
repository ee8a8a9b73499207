use super::*;

use crate::{kernel, skip};

#[test]
fn some_thousand_frames_through_each_engine() {
    for engine in [Engine::Memory, Engine::Epoll, Engine::Uring] {
        if engine == Engine::Uring
            && let Some(why) = kernel::Need::Uring.missing()
        {
            skip::skip("some_thousand_frames_through_each_engine", &why);
            continue;
        }
        // What the process holds is other tests' too.
        let ended = run(engine, Cli { count: 20_000, seed: 7 });
        assert!(matches!(ended, Ok(Some(_))), "{}: {ended:?}", engine.name());
    }
}
