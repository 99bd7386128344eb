//! Compares the mailbox with a very simple model: three lists.

use std::collections::VecDeque;
use std::pin::Pin;

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

const LIMITS: Capacity = Capacity { urgent: 2, routine: 3 };

#[derive(Clone, Copy, Debug)]
enum Step {
    TrySend {
        urgent: bool,
        kind: u8,
    },
    /// Starts a send that waits in line while the lane is full.
    Send {
        urgent: bool,
        kind: u8,
    },
    /// Polls the waiting send at this index (modulo their number).
    PollSend(usize),
    /// Drops the waiting send at this index.
    CancelSend(usize),
    Recv,
    RecvMatch {
        kind: u8,
    },
    /// Ends the target of a monitor that is set at this point.
    Down,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = || (any::<bool>(), 0..4_u8);
    prop_oneof![
        6 => lane().prop_map(|(urgent, kind)| Step::TrySend { urgent, kind }),
        4 => lane().prop_map(|(urgent, kind)| Step::Send { urgent, kind }),
        3 => any::<usize>().prop_map(Step::PollSend),
        1 => any::<usize>().prop_map(Step::CancelSend),
        4 => Just(Step::Recv),
        4 => (0..5_u8).prop_map(|kind| Step::RecvMatch { kind }),
        1 => Just(Step::Down),
    ]
}

/// The entries of the mailbox: numbered messages of a kind, or the `Down` of a monitor.
type Entry = Received<(u8, u32)>;

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), SendError<(u8, u32)>>> + 'a>>;

/// A waiting send: its number, lane, message, and whether it was given room.
struct InLine {
    number: u32,
    urgent: bool,
    given: bool,
}

#[derive(Default)]
struct Model {
    stash: VecDeque<Entry>,
    lanes: [VecDeque<Entry>; 2],
    line: Vec<InLine>,
}

fn is_message(entry: &&Entry) -> bool {
    matches!(entry, Received::Message(_))
}

impl Model {
    fn limit(urgent: bool) -> usize {
        if urgent { LIMITS.urgent } else { LIMITS.routine }
    }

    fn lane(&mut self, urgent: bool) -> &mut VecDeque<Entry> {
        &mut self.lanes[usize::from(!urgent)]
    }

    fn has_room(&mut self, urgent: bool) -> bool {
        let given = self.line.iter().filter(|send| send.urgent == urgent && send.given).count();
        let held = self.lane(urgent).iter().filter(is_message).count();
        held + given < Self::limit(urgent)
    }

    fn give_room(&mut self) {
        for urgent in [true, false] {
            while self.has_room(urgent) {
                let next = self.line.iter_mut().find(|send| send.urgent == urgent && !send.given);
                let Some(next) = next else { break };
                next.given = true;
            }
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.stash.pop_front();
        let entry = entry.or_else(|| self.lanes.iter_mut().find_map(VecDeque::pop_front));
        self.give_room();
        entry
    }

    /// `Ok(None)` if the mailbox would wait.
    fn pop_match(&mut self, kind: u8) -> Result<Option<Entry>, StashFull> {
        let limit = LIMITS.urgent + LIMITS.routine;
        if let Some(at) = self.stash.iter().position(|entry| is_kind(entry, kind)) {
            return Ok(self.stash.remove(at));
        }
        for lane in 0..2 {
            while let Some(entry) = self.lanes[lane].pop_front() {
                if is_kind(&entry, kind) {
                    self.give_room();
                    return Ok(Some(entry));
                }
                if is_message(&&entry) && self.stash.iter().filter(is_message).count() == limit {
                    self.give_room();
                    self.lanes[lane].push_front(entry);
                    return Err(StashFull { limit });
                }
                self.stash.push_back(entry);
            }
        }
        self.give_room();
        Ok(None)
    }
}

/// Kind 4 means a `Down`.
fn is_kind(entry: &Entry, kind: u8) -> bool {
    match entry {
        Received::Message((of, _)) => *of == kind,
        Received::Down(_) => kind == 4,
        Received::Exit(_) => false,
    }
}

fn run(steps: &[Step]) {
    let (address, mut mailbox) = mailbox(LIMITS);
    let mut model = Model::default();
    let mut sends = Vec::new();
    for (number, step) in (0..).zip(steps) {
        match *step {
            Step::TrySend { urgent, kind } => {
                let message = (kind, number);
                let sent = if urgent { address.try_send_urgent(message) } else { address.try_send(message) };
                assert_eq!(sent.is_ok(), model.has_room(urgent), "{step:?}");
                if sent.is_ok() {
                    model.lane(urgent).push_back(Received::Message(message));
                }
            }
            Step::Send { urgent, kind } => {
                let message = (kind, number);
                let mut send: Waiting<'_> = if urgent {
                    Box::pin(address.send_urgent(message))
                } else {
                    Box::pin(address.send(message))
                };
                let room = model.has_room(urgent);
                assert_eq!((&mut send).now_or_never(), room.then_some(Ok(())), "{step:?}");
                if room {
                    model.lane(urgent).push_back(Received::Message(message));
                } else {
                    model.line.push(InLine { number, urgent, given: false });
                    sends.push((message, send));
                }
            }
            Step::PollSend(at) if !sends.is_empty() => {
                let at = at % sends.len();
                let (message, send) = &mut sends[at];
                let InLine { number, urgent, given } = model.line[at];
                assert_eq!(number, message.1);
                assert_eq!(send.now_or_never(), given.then_some(Ok(())), "{step:?}");
                if given {
                    let (message, _) = sends.remove(at);
                    model.line.remove(at);
                    model.lane(urgent).push_back(Received::Message(message));
                }
            }
            Step::CancelSend(at) if !sends.is_empty() => {
                let at = at % sends.len();
                drop(sends.remove(at));
                model.line.remove(at);
                model.give_room();
            }
            Step::PollSend(_) | Step::CancelSend(_) => {}
            Step::Recv => assert_eq!(mailbox.try_recv(), model.pop()),
            Step::RecvMatch { kind } => {
                let got = mailbox.recv_match(|entry| is_kind(entry, kind)).now_or_never();
                match model.pop_match(kind) {
                    Ok(None) => assert_eq!(got, None, "{step:?}"),
                    expected => assert_eq!(got, Some(expected), "{step:?}"),
                }
            }
            Step::Down => {
                let (target, end) = super::super::mailbox::<()>(LIMITS);
                let monitor = mailbox.monitor(&target);
                drop(end);
                let down = Down { monitor, actor: target.id(), reason: ExitReason::Normal };
                model.lane(false).push_back(Received::Down(down));
            }
        }
    }
    drop(sends);
    model.line.clear();
    drop(address);
    while let Some(expected) = model.pop() {
        assert_eq!(mailbox.recv().now_or_never(), Some(Some(expected)));
    }
    assert_eq!(mailbox.recv().now_or_never(), Some(None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_mailbox_does_what_the_model_does(steps in prop::collection::vec(step(), 0..120)) {
        run(&steps);
    }
}
