//! The search for devices: claim by claim, request by request, device by device, and back where it leads nowhere.

use std::collections::HashMap;

use k8s_openapi::api::resource::v1::{Device, DeviceClass, ResourceClaim, ResourceSlice};

use super::capacity::{self, Amounts};
use super::constraint::Constraint;
use super::in_use::Use;
use super::pools::{self, Condition, Pool, device_is_for, devices_of};
use super::request::{Mode, Request, asked_of, requests_of};
use super::solution::{Picked, Solution};
use super::{Devices, full_name};
use crate::object::Node;

/// The most devices that a claim can have.
const MAX_DEVICES: usize = 32;
/// Devices that are tried for one node before it is given up; upstream gives up after ten seconds.
const MAX_TRIALS: u32 = 100_000;
/// How many devices and requests all claims of a pod may have together: the search goes that deep.
const MAX_DEPTH: usize = 768;

/// Where a device is: pool, slice of the pool, device of the slice.
pub type Place = (usize, usize, usize);

/// Which alternative of which request of which claim.
type RequestKey = (usize, usize, usize);

struct Wanted<'a> {
    request: Request<'a>,
    class: &'a DeviceClass,
    count: usize,
    /// Those that a request for all devices means.
    all: Option<Vec<Place>>,
}

/// Why a branch of the search ends early.
enum Stop {
    /// The claim would have more devices than it can; fewer in another way may do.
    TooMany,
    Failed(String),
}

/// Where the search is.
#[derive(Clone, Copy)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    device: usize,
}

/// What this search has taken of a device.
#[derive(Default)]
struct Taken {
    claims: Vec<usize>,
    shares: Vec<Amounts>,
}

struct Search<'a> {
    devices: &'a Devices,
    node: &'a Node,
    claims: Vec<&'a ResourceClaim>,
    pools: Vec<Pool<'a>>,
    wanted: Vec<Vec<Vec<Wanted<'a>>>>,
    constraints: Vec<Vec<Constraint<'a>>>,
    /// Selectors do not depend on what else is chosen.
    selectable: HashMap<(Place, RequestKey), bool>,
    taken: HashMap<Place, Taken>,
    picked: Vec<Vec<Picked<'a>>>,
    trials: u32,
}

pub fn find<'a>(
    devices: &'a Devices,
    claims: &[&'a ResourceClaim],
    node: &'a Node,
) -> Result<Option<Solution<'a>>, String> {
    let mut search = Search {
        devices,
        node,
        claims: claims.to_vec(),
        pools: pools::of_node(devices, node),
        wanted: Vec::new(),
        constraints: Vec::new(),
        selectable: HashMap::new(),
        taken: HashMap::new(),
        picked: claims.iter().map(|_| Vec::new()).collect(),
        trials: 0,
    };
    for claim in claims {
        search.prepare(claim)?;
    }
    search.check_depth()?;
    match search.next_claim(0) {
        Ok(true) => Ok(Some(search.solution())),
        Err(Stop::Failed(error)) => Err(error),
        Ok(false) | Err(Stop::TooMany) => {
            let invalid = search.pools.iter().any(|pool| pool.condition == Condition::Invalid);
            if invalid { Err("invalid resource pools were encountered".to_owned()) } else { Ok(None) }
        }
    }
}

impl<'a> Search<'a> {
    fn prepare(&mut self, claim: &'a ResourceClaim) -> Result<(), String> {
        let (index, claim_name) = (self.wanted.len(), full_name(claim));
        let mut wanted = Vec::new();
        let mut least = 0_usize;
        for request in requests_of(claim) {
            let mut alternatives = Vec::new();
            for (alternative, request) in Request::alternatives(request).into_iter().enumerate() {
                let fail = |what: String| format!("claim {claim_name}, request {}: {what}", request.name);
                let key = (index, wanted.len(), alternative);
                alternatives.push(self.resolve(request, key).map_err(fail)?);
            }
            least += alternatives.iter().map(|wanted| wanted.count).min().unwrap_or(0);
            wanted.push(alternatives);
        }
        if least > MAX_DEVICES {
            return Err(format!(
                "claim {claim_name}: number of requested devices {least} exceeds the claim limit of {MAX_DEVICES}"
            ));
        }
        let mut constraints = Vec::new();
        for constraint in asked_of(claim).and_then(|asked| asked.constraints.as_ref()).into_iter().flatten() {
            constraints.push(Constraint::of(constraint).ok_or_else(|| {
                let number = constraints.len();
                format!(
                    "claim {claim_name}, constraint #{number}: empty constraint (unsupported constraint type?)"
                )
            })?);
        }
        self.wanted.push(wanted);
        self.constraints.push(constraints);
        Ok(())
    }

    fn check_depth(&self) -> Result<(), String> {
        let requests = self.wanted.iter().flatten();
        let most = |alternatives: &Vec<Wanted<'_>>| {
            alternatives.iter().map(|wanted| wanted.count.min(MAX_DEVICES)).max().unwrap_or(0) + 2
        };
        let depth: usize = requests.map(most).sum::<usize>() + self.claims.len();
        if depth > MAX_DEPTH {
            return Err(format!("{} claims ask for too many devices together", self.claims.len()));
        }
        Ok(())
    }

    fn resolve(&mut self, request: Request<'a>, key: RequestKey) -> Result<Wanted<'a>, String> {
        if let Some(index) = request.selectors.iter().position(|selector| selector.cel.is_none()) {
            return Err(format!("selector #{index}: CEL expression empty (unsupported selector type?)"));
        }
        let class = self.devices.classes.get("", request.class).ok_or_else(|| {
            let name = request.class;
            format!("could not retrieve device class {name}: deviceclass.resource.k8s.io {name:?} not found")
        })?;
        let mut wanted = Wanted { request, class, count: 0, all: None };
        match request.mode() {
            Ok(Mode::ExactCount) => wanted.count = usize::try_from(request.count).unwrap_or(0),
            Ok(Mode::All) => {
                let all = self.all_devices(&wanted, key)?;
                wanted.count = all.len();
                wanted.all = Some(all);
            }
            Err(mode) => return Err(format!("unsupported count mode {mode}")),
        }
        Ok(wanted)
    }

    fn all_devices(&mut self, wanted: &Wanted<'a>, key: RequestKey) -> Result<Vec<Place>, String> {
        let mut all = Vec::new();
        for pool in 0..self.pools.len() {
            let name = || self.pools[pool].full_name();
            match self.pools[pool].condition {
                Condition::Usable => {}
                Condition::Incomplete => {
                    let name = name();
                    return Err(format!(
                        "asks for all devices, but resource pool {name} is currently being updated"
                    ));
                }
                Condition::Invalid => {
                    let name = name();
                    return Err(format!(
                        "asks for all devices, but resource pool {name} is currently invalid"
                    ));
                }
            }
            for slice in 0..self.pools[pool].slices.len() {
                for device in 0..devices_of(self.pools[pool].slices[slice]).len() {
                    let place = (pool, slice, device);
                    if self.is_selectable(place, wanted, key)?
                        && self.room_on(place, &wanted.request).is_some()
                    {
                        all.push(place);
                    }
                }
            }
        }
        Ok(all)
    }

    fn slice(&self, place: Place) -> &'a ResourceSlice {
        self.pools[place.0].slices[place.1]
    }

    fn device(&self, place: Place) -> &'a Device {
        &devices_of(self.slice(place))[place.2]
    }

    /// Whether class and request select the device, and it is for this node.
    fn is_selectable(&mut self, place: Place, wanted: &Wanted<'a>, key: RequestKey) -> Result<bool, String> {
        if let Some(known) = self.selectable.get(&(place, key)) {
            return Ok(*known);
        }
        let (device, driver) = (self.device(place), self.pools[place.0].driver);
        let here = self.slice(place).spec.per_device_node_selection != Some(true)
            || device_is_for(device, self.node);
        // Devices that are prepared after the decision are not waited for, so nobody gets them.
        let ready = device.binding_conditions.as_ref().is_none_or(Vec::is_empty);
        let mut selects = here && ready;
        if selects {
            let class =
                wanted.class.spec.as_ref().and_then(|spec| spec.selectors.as_deref()).unwrap_or_default();
            let mut selectors = self.devices.selectors.borrow_mut();
            let class_name = wanted.class.metadata.name.as_deref().unwrap_or_default();
            selects = selectors
                .all_match(class, driver, device)
                .map_err(|error| format!("class {class_name}: {error}"))?
                && selectors.all_match(wanted.request.selectors, driver, device)?;
        }
        self.selectable.insert((place, key), selects);
        Ok(selects)
    }

    /// What a share of the device, or all of it, takes of its capacity; `None` if that is not there.
    fn room_on(&self, place: Place, request: &Request<'_>) -> Option<Amounts> {
        let device = self.device(place);
        let amounts = capacity::of_request(request.capacity, device)?;
        let others = self.pools[place.0].uses(&device.name).map(|used| &used.consumed);
        let ours = self.taken.get(&place).into_iter().flat_map(|taken| &taken.shares);
        let all: Vec<&Amounts> = others.chain(ours).collect();
        capacity::suffices(&amounts, device, all.iter().copied()).then_some(amounts)
    }

    fn next_claim(&mut self, claim: usize) -> Result<bool, Stop> {
        if claim == self.claims.len() {
            return Ok(true);
        }
        match self.next_request(claim, 0) {
            // Another way for an earlier claim may leave more for this one.
            Err(Stop::TooMany) if claim > 0 => Ok(false),
            other => other,
        }
    }

    fn next_request(&mut self, claim: usize, request: usize) -> Result<bool, Stop> {
        let Some(alternatives) = self.wanted[claim].get(request).map(Vec::len) else {
            return self.next_claim(claim + 1);
        };
        let mut all_too_many = alternatives > 0;
        for alternative in 0..alternatives {
            match self.next_device(At { claim, request, alternative, device: 0 }, (0, 0, 0)) {
                Err(Stop::TooMany) => {}
                Ok(false) => all_too_many = false,
                decided => return decided,
            }
        }
        if all_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    fn next_device(&mut self, at: At, from: Place) -> Result<bool, Stop> {
        let wanted = &self.wanted[at.claim][at.request][at.alternative];
        let count = wanted.count;
        let all = wanted.all.as_ref().map(|all| all.get(at.device).copied());
        if wanted.all.is_some() && count == 0 {
            return Ok(false);
        }
        if at.device >= count {
            return self.next_request(at.claim, at.request + 1);
        }
        if self.picked[at.claim].len() + count - at.device > MAX_DEVICES {
            return Err(Stop::TooMany);
        }
        if let Some(Some(place)) = all {
            return self.try_device(at, place, (0, 0, 0));
        }
        for pool in from.0..self.pools.len() {
            if self.pools[pool].condition != Condition::Usable {
                continue;
            }
            let first_slice = if pool == from.0 { from.1 } else { 0 };
            for slice in first_slice..self.pools[pool].slices.len() {
                let first = if (pool, slice) == (from.0, from.1) { from.2 } else { 0 };
                for device in first..devices_of(self.pools[pool].slices[slice]).len() {
                    if self.try_device(at, (pool, slice, device), (pool, slice, device + 1))? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Takes a device if it can be had, and goes on; gives it back if that leads nowhere.
    fn try_device(&mut self, at: At, place: Place, next: Place) -> Result<bool, Stop> {
        self.trials += 1;
        if self.trials > MAX_TRIALS {
            let node = &self.node.metadata.name;
            return Err(Stop::Failed(format!("node {node}: timed out trying to allocate devices")));
        }
        let Some(undo) = self.take(at, place)? else { return Ok(false) };
        let found = self.next_device(At { device: at.device + 1, ..at }, next);
        if !matches!(found, Ok(true)) {
            self.give_back(at, place, undo);
        }
        found
    }

    fn take(&mut self, at: At, place: Place) -> Result<Option<Undo>, Stop> {
        let device = self.device(place);
        let key = (at.claim, at.request, at.alternative);
        let (request, is_all) = {
            let wanted = &self.wanted[at.claim][at.request][at.alternative];
            (wanted.request, wanted.all.is_some())
        };
        let is_shared = device.allow_multiple_allocations == Some(true);
        let taken_by =
            |claim: usize| self.taken.get(&place).is_some_and(|taken| taken.claims.contains(&claim));
        let by_any = self.taken.get(&place).is_some_and(|taken| !taken.claims.is_empty());
        let in_use = match request.admin_access {
            true => !is_shared && taken_by(at.claim),
            false => by_any || self.pools[place.0].uses(&device.name).any(Use::is_whole),
        };
        if in_use {
            return Ok(None);
        }
        if !self.selects(place, key).map_err(|error| self.at_fault(at, error))? {
            return Ok(None);
        }
        let Some(amounts) = self.room_on(place, &request) else { return Ok(None) };
        let has_shares = self.taken.get(&place).is_some_and(|taken| !taken.shares.is_empty())
            || self.pools[place.0].uses(&device.name).any(Use::is_any);
        let counts = !(is_shared && has_shares) && device.consumes_counters.is_some();
        if (counts && !self.pools[place.0].counters.suffice(device)) || !request.tolerates(device) {
            return Ok(None);
        }
        if !self.constrain(at.claim, place, &request) {
            return match is_all {
                true => {
                    let pool = self.pools[place.0].full_name();
                    let why = format!(
                        "claim {}, request {}: cannot add device {pool}/{} because a claim constraint would not be satisfied",
                        full_name(self.claims[at.claim]),
                        request.name,
                        device.name,
                    );
                    Err(Stop::Failed(why))
                }
                false => Ok(None),
            };
        }
        if counts {
            self.pools[place.0].counters.consume(device);
        }
        let taken = self.taken.entry(place).or_default();
        if is_shared {
            taken.shares.push(amounts.clone())
        } else {
            taken.claims.push(at.claim)
        }
        let pool = &self.pools[place.0];
        let (driver, pool, slice) = (pool.driver, pool.name, pool.slices[place.1]);
        let share = is_shared.then_some(amounts);
        self.picked[at.claim].push(Picked { request, driver, pool, slice, device, share });
        Ok(Some(Undo { is_shared, counts }))
    }

    fn selects(&mut self, place: Place, key: RequestKey) -> Result<bool, String> {
        if let Some(known) = self.selectable.get(&(place, key)) {
            return Ok(*known);
        }
        let (claim, request, alternative) = key;
        // Taken out for the time of the question, which needs the rest of the search.
        let wanted = &self.wanted[claim][request][alternative];
        let question = Wanted { request: wanted.request, class: wanted.class, count: 0, all: None };
        self.is_selectable(place, &question, key)
    }

    fn at_fault(&self, at: At, error: String) -> Stop {
        let own = !error.starts_with("class ");
        let name = full_name(self.claims[at.claim]);
        Stop::Failed(if own { format!("claim {name}: {error}") } else { error })
    }

    /// Adds the device to all constraints, or to none.
    fn constrain(&mut self, claim: usize, place: Place, request: &Request<'a>) -> bool {
        let (device, driver) = (self.device(place), self.pools[place.0].driver);
        let constraints = &mut self.constraints[claim];
        let against = constraints.iter_mut().position(|constraint| !constraint.add(request, driver, device));
        if let Some(against) = against {
            constraints[..against].iter_mut().for_each(|constraint| constraint.remove(request));
        }
        against.is_none()
    }

    fn give_back(&mut self, at: At, place: Place, undo: Undo) {
        let device = self.device(place);
        if let Some(picked) = self.picked[at.claim].pop() {
            self.constraints[at.claim].iter_mut().for_each(|constraint| constraint.remove(&picked.request));
        }
        if let Some(taken) = self.taken.get_mut(&place) {
            if undo.is_shared {
                taken.shares.pop();
            } else {
                taken.claims.pop();
            }
        }
        if undo.counts {
            self.pools[place.0].counters.release(device);
        }
    }

    fn solution(self) -> Solution<'a> {
        let classes = |claim: usize| {
            let requests = self.wanted[claim].iter();
            let chosen = requests.filter_map(|alternatives| {
                let picked = &self.picked[claim];
                let chosen = alternatives.iter().find(|wanted| {
                    picked.iter().any(|picked| picked.request.full_name() == wanted.request.full_name())
                });
                chosen.or(alternatives.first())
            });
            chosen.map(|wanted| (wanted.request, wanted.class)).collect()
        };
        let claims = self.claims.iter().enumerate();
        let parts: Vec<_> = claims.map(|(index, claim)| (*claim, classes(index))).collect();
        let parts = parts.into_iter().zip(self.picked);
        Solution::new(self.node, parts.map(|((claim, chosen), picked)| (claim, chosen, picked)).collect())
    }
}

struct Undo {
    is_shared: bool,
    counts: bool,
}
