//! Bugs planted in the runtime, to see whether tests find them: with `--cfg poniard_planted`, one at a time for each thread of the system. In any other build there are none, and the question costs nothing.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// A push wakes nobody.
    LostWakeUp,
    /// A searching worker that finds something does not see to it that another one searches on.
    SearchEndsWithTheFirst,
    /// A worker takes nothing that others keep to themselves.
    NothingSeized,
    /// A thread keeps what it sets free to itself although its process has calls ahead.
    HiddenSuccessor,
    /// The last of several tasks that one sets free is forgotten.
    DroppedSuccessor,
    /// A task that succeeds in its second attempt is run a third time.
    DoubleCompletion,
    /// Who is through with several workers does not let the others go.
    LeakedReservation,
    /// A task does not wait for one that it only comes after.
    IgnoredOrder,
    /// A task whose process has ended is given up at once.
    NotBegunAgain,
    /// A call ahead that comes back is forgotten.
    LostTicket,
    /// A task whose process has ended is begun again, and its result is taken from the first call that there was.
    StaleReply,
    /// What is to happen at a time happens a millisecond before.
    EarlyTimer,
    /// The runtime is taken for idle while tasks wait for others.
    IdleTooEarly,
    /// Whoever takes from the board does not wake who could take more.
    BoardWakesNobody,
    /// Who writes a value does not wait for those that read it.
    ReadersForgotten,
    /// Who has access to a part waits only for those who have access to the same part.
    PartsForgotten,
    /// What a device has of a buffer is taken for good when the host has changed it.
    StaleReplica,
    /// What leaves a device's memory to make room is not copied to the host.
    LostWriteBack,
    /// What leaves a device's memory to make room counts as taken all the same.
    LeakedReplica,
    /// What is lost with a device is not computed again.
    NotComputedAgain,
    /// The result of a launch is taken that was made of one that was withdrawn.
    UntimelyResult,
    /// What leaves a device's memory is copied to the host although a launch elsewhere is changing it.
    ReadWhileWritten,
    /// A launch that waits for memory of its device is not looked at when another one has ended.
    ForgottenLaunch,
}

impl Bug {
    /// Those that the simulator has to find: all but what a region that is checked finds.
    #[cfg(poniard_planted)]
    pub const ALL: [Self; 21] = [
        Self::LostWakeUp,
        Self::SearchEndsWithTheFirst,
        Self::NothingSeized,
        Self::HiddenSuccessor,
        Self::DroppedSuccessor,
        Self::DoubleCompletion,
        Self::LeakedReservation,
        Self::IgnoredOrder,
        Self::NotBegunAgain,
        Self::LostTicket,
        Self::StaleReply,
        Self::EarlyTimer,
        Self::IdleTooEarly,
        Self::BoardWakesNobody,
        Self::StaleReplica,
        Self::LostWriteBack,
        Self::LeakedReplica,
        Self::NotComputedAgain,
        Self::UntimelyResult,
        Self::ReadWhileWritten,
        Self::ForgottenLaunch,
    ];
}

#[cfg(poniard_planted)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
    static FIRST_REPLY: std::cell::RefCell<Option<Vec<u8>>> = const { std::cell::RefCell::new(None) };
}

/// Whether this one is planted.
#[inline(always)]
pub(crate) fn is(bug: Bug) -> bool {
    #[cfg(poniard_planted)]
    return PLANTED.get() == Some(bug);
    #[cfg(not(poniard_planted))]
    {
        let _ = bug;
        false
    }
}

/// Plants a bug for what runs on the calling thread of the system, and takes out the one that was there.
#[cfg(poniard_planted)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
    FIRST_REPLY.set(None);
}

/// For [`Bug::StaleReply`]: keeps the first reply of a process.
#[inline(always)]
pub(crate) fn keep_reply(reply: &[u8]) {
    #[cfg(poniard_planted)]
    FIRST_REPLY.with_borrow_mut(|first| _ = first.get_or_insert_with(|| reply.to_vec()));
    #[cfg(not(poniard_planted))]
    let _ = reply;
}

/// The first reply of a process, if it is taken for all that follow a loss.
#[inline(always)]
pub(crate) fn stale_reply() -> Option<Vec<u8>> {
    #[cfg(poniard_planted)]
    return FIRST_REPLY.with_borrow(Option::clone).filter(|_| is(Bug::StaleReply));
    #[cfg(not(poniard_planted))]
    None
}
