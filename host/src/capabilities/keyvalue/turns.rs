//! Who may work next: a few at once on the whole host, and where more wait, one service after another.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// So many turns at once.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// Services, the next first, each with those of it that wait. None of them is empty.
    waiting: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<Turn>>)>,
}

/// Whoever has it works. Dropped, it is the next one's.
pub(super) struct Turn(Option<Turns>);

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: at_once, waiting: VecDeque::new() })))
    }

    /// Waits for a turn of this service. Whoever stops waiting loses nothing for others.
    pub(super) async fn take(&self, service: &Arc<str>) -> Turn {
        let given = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Turn(Some(self.clone()));
            }
            let (sender, given) = oneshot::channel();
            match state.waiting.iter_mut().find(|(waits, _)| waits == service) {
                Some((_, queue)) => queue.push_back(sender),
                None => state.waiting.push_back((service.clone(), [sender].into())),
            }
            given
        };
        // Nobody drops a sender without having sent.
        given.await.unwrap_or(Turn(None))
    }

    fn pass_on(self) {
        while let Some(next) = self.next() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It waits no more. What it was given must not come back here by its drop, once for each of those.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    /// The one whose turn is next. Where nobody waits, one more turn is free.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state();
        let Some((service, mut queue)) = state.waiting.pop_front() else {
            state.free += 1;
            return None;
        };
        let next = queue.pop_front();
        if !queue.is_empty() {
            state.waiting.push_back((service, queue));
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn services_take_turns_and_those_that_gave_up_are_passed_over() {
        let (turns, [one, two]) = (Turns::new(1), ["one", "two"].map(Arc::<str>::from));
        let first = turns.take(&one).now_or_never().expect("it is free");
        let mut waiting: Vec<_> = [&one, &one, &one, &two].map(|service| Box::pin(turns.take(service))).into();
        assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()));
        // The second of `one` gives up.
        drop(waiting.remove(1));
        drop(first);
        let mut now = |place: usize| waiting.get_mut(place).and_then(|wait| wait.now_or_never());
        let second = now(0).expect("the first of one");
        assert!(now(1).is_none() && now(2).is_none(), "one at once");
        drop(second);
        let third = now(2).expect("two, though a third of one came before");
        drop(third);
        drop(now(1).expect("the third of one"));
        assert!(turns.take(&two).now_or_never().is_some(), "none is lost");
    }
}
