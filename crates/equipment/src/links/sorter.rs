//! Decides what becomes of each unit of a link: its source, its lane, or why it is dropped.

use std::sync::Arc;

use config::{EmergencyRule, Link, LinkSource};
use frame::FramePriority;
use framing::{Fecf, Format, Header, Unit, UnitCheck};

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It becomes a frame.
    Keep(Kept),
    /// It is idle, and the link drops idle frames.
    DropIdle,
    /// It is bad, and the link drops bad frames or has no source for them.
    DropBad,
}

/// A unit that becomes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The source of the frame.
    pub source: u32,
    /// Its lane.
    pub priority: FramePriority,
    /// Whether it is bad: its header cannot be read, its checksum is wrong, its spacecraft is not listed, or the
    /// equipment has marked it.
    pub is_bad: bool,
    /// Whether it carries no data.
    pub is_idle: bool,
}

/// The rules of a link.
#[derive(Clone, Debug)]
pub struct Sorter {
    /// The configuration of the link.
    config: Arc<Link>,
}

impl Sorter {
    /// The rules of the link `config`.
    pub const fn new(config: Arc<Link>) -> Self {
        Self { config }
    }

    /// Judges `unit`. Also returns its header. There is none if the header cannot be read, a checksum is wrong, or the
    /// spacecraft is not listed. The caller must not believe the header if the unit is kept as bad: the equipment has
    /// marked such a unit.
    pub fn judge(&self, unit: &Unit) -> (Fate, Option<Header>) {
        let Some(header) = self.header(unit) else { return (self.bad(), None) };
        if header.is_idle && self.config.drop_idle {
            return (Fate::DropIdle, Some(header));
        }
        let source = match self.config.source {
            LinkSource::Fixed(source) => Some(source),
            LinkSource::Apid => Some(header.channel),
            LinkSource::Spacecraft => header.spacecraft,
            LinkSource::SpacecraftChannel => header.spacecraft.map(|id| id << 8 | header.channel),
        };
        // A spacecraft that neither the format nor the equipment names is the only one of the list.
        let Some(source) = source.or_else(|| self.only_spacecraft()) else { return (self.bad(), None) };
        let is_emergency = self.config.emergency.iter().any(|rule| holds(rule, &header, &unit.data));
        let priority = if is_emergency { FramePriority::Emergency } else { FramePriority::Routine };
        let kept = Kept { source, priority, is_bad: unit.bad_quality, is_idle: header.is_idle };
        (Fate::Keep(kept), Some(header))
    }

    /// The header of `unit`, with what the equipment says beside it. `None` if it cannot be read, a checksum is wrong,
    /// or it names a spacecraft that is not listed.
    fn header(&self, unit: &Unit) -> Option<Header> {
        let mut header = self.config.decode.header(&unit.data).ok()?;
        if self.config.decode.format == Format::None {
            header.channel = unit.channel.map_or(0, u32::from);
        }
        header.spacecraft = header.spacecraft.or(unit.spacecraft.map(u32::from));
        let is_foreign =
            !self.config.spacecraft.is_empty() && header.spacecraft.is_some_and(|id| !self.lists(id));
        (!is_foreign).then_some(header)
    }

    /// Whether the list of spacecraft has this one.
    fn lists(&self, spacecraft: u32) -> bool {
        u16::try_from(spacecraft).is_ok_and(|id| self.config.spacecraft.contains(&id))
    }

    /// What recognises a transfer frame that stands alone between other bytes: its checksum, or else the list of
    /// spacecraft. `None` if there is neither.
    pub fn unit_check(&self) -> Option<UnitCheck> {
        let decode = self.config.decode;
        match decode.format {
            Format::Packet | Format::None => None,
            _ if decode.fecf != Fecf::None => {
                Some(UnitCheck::checksum(move |unit| decode.header(unit).is_ok()))
            }
            _ if self.config.spacecraft.is_empty() => None,
            _ => {
                let sorter = self.clone();
                Some(UnitCheck::header(move |unit| {
                    decode
                        .header(unit)
                        .is_ok_and(|header| header.spacecraft.is_some_and(|id| sorter.lists(id)))
                }))
            }
        }
    }

    /// What becomes of a bad frame: it must not create a stream that its damaged header names.
    pub fn bad(&self) -> Fate {
        let source = match self.config.source {
            LinkSource::Fixed(source) => Some(source),
            LinkSource::Spacecraft => self.only_spacecraft().or(self.config.bad_source),
            LinkSource::Apid | LinkSource::SpacecraftChannel => self.config.bad_source,
        };
        match source {
            Some(source) if !self.config.drop_bad => {
                let priority = FramePriority::Routine;
                Fate::Keep(Kept { source, priority, is_bad: true, is_idle: false })
            }
            _ => Fate::DropBad,
        }
    }

    /// The spacecraft of the list, if the list has exactly one.
    fn only_spacecraft(&self) -> Option<u32> {
        let mut allowed = self.config.spacecraft.iter();
        allowed.next().copied().filter(|_| allowed.next().is_none()).map(u32::from)
    }
}

/// Whether `rule` makes a unit an emergency.
fn holds(rule: &EmergencyRule, header: &Header, unit: &[u8]) -> bool {
    match rule {
        EmergencyRule::Channels(channels) => {
            u8::try_from(header.channel).is_ok_and(|channel| channels.contains(&channel))
        }
        EmergencyRule::Apids(apids) => u16::try_from(header.channel).is_ok_and(|apid| apids.contains(&apid)),
        EmergencyRule::Byte { offset, mask, value } => {
            unit.get(*offset).is_some_and(|byte| byte & mask == *value)
        }
    }
}

#[cfg(test)]
mod tests;
