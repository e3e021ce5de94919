//! Futures that are dropped after so many polls, to see that dropping one at any await is safe.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, poll_fn};

use crate::pipeline::Spawner;
use crate::sync::lock;

/// Polls a future up to so many times. `None` if it isn't done by then; it is dropped.
pub(super) async fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A number of polls that several futures share. When they are used up nothing goes on until [`lift`](Self::lift).
#[derive(Clone)]
pub(super) struct Budget(Arc<Shared>);

struct Shared {
    left: AtomicUsize,
    used: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl Budget {
    pub(super) fn new(polls: usize) -> Self {
        Self(Arc::new(Shared { left: AtomicUsize::new(polls), used: AtomicUsize::new(0), waiting: Mutex::default() }))
    }

    fn take(&self, cx: &Context<'_>) -> bool {
        // Known before it is looked at, so that no wake is lost.
        lock(&self.0.waiting).push(cx.waker().clone());
        let taken = self.0.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        self.0.used.fetch_add(usize::from(taken), Ordering::SeqCst);
        if self.is_used_up() {
            lock(&self.0.waiting).drain(..).for_each(Waker::wake);
        } else if taken {
            lock(&self.0.waiting).pop();
        }
        taken
    }

    fn is_used_up(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) == 0
    }

    /// What is left of the futures may go on.
    pub(super) fn lift(&self) {
        self.0.left.store(usize::MAX, Ordering::SeqCst);
        lock(&self.0.waiting).drain(..).for_each(Waker::wake);
    }

    /// Runs a future within the budget, and drops it when that is used up.
    pub(super) async fn run<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if !self.take(cx) {
                return Poll::Ready(None);
            }
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if self.is_used_up() => Poll::Ready(None),
                Poll::Pending => {
                    lock(&self.0.waiting).push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Spawns futures that hold still when the budget is used up, until it is lifted.
    pub(super) fn spawner(&self) -> Spawner {
        let budget = self.clone();
        Arc::new(move |future| {
            let held = Held { budget: budget.clone(), future };
            tokio::spawn(held).abort_handle()
        })
    }
}

struct Held {
    budget: Budget,
    future: BoxFuture<'static, ()>,
}

impl Future for Held {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.budget.take(cx) {
            return self.future.as_mut().poll(cx);
        }
        lock(&self.budget.0.waiting).push(cx.waker().clone());
        if self.budget.is_used_up() {
            return Poll::Pending;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
