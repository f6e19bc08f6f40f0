//! One budget over several replicas, in a real Redis where `MPG_TEST_REDIS_ADDR` names one.

use sql::model::Timestamp;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::cache::redis::tests::{address, replica};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what must happen.
const LOOK: Duration = Duration::from_millis(10);
const ONE: NonZeroU32 = NonZeroU32::MIN;

/// Replicas of an installation of their own, each with the budget of one key.
struct Scene {
    replicas: Vec<Replica>,
    tasks: Tasks,
}

struct Replica {
    budget: Arc<Shared>,
    settings: watch::Sender<Arc<Settings>>,
}

async fn scene(replicas: usize, limit: u32, window_s: u32) -> Option<Scene> {
    let address = address()?;
    let (installation, tasks) = (Uuid::now_v7(), Tasks::new(Handle::current()));
    let key = ApiKeyId::at(Timestamp::from_millis(0));
    let mut scene = Scene { replicas: Vec::new(), tasks: tasks.clone() };
    for _ in 0..replicas {
        let settings = watch::Sender::new(Arc::new(Settings::default()));
        let redis = replica(&address, installation, &tasks).await;
        let sharing = Sharing::start(redis, settings.subscribe(), &tasks);
        let budget = Arc::new(Shared::new(key, RateLimit { limit, window_s }, sharing));
        scene.replicas.push(Replica { budget, settings });
    }
    Some(scene)
}

impl Scene {
    fn first(&self) -> &Replica {
        &self.replicas[0]
    }

    /// What is held on lease, as Redis knows it.
    async fn leased(&self) -> u32 {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.first().redis().full_name(&self.first().budget.name));
        let fields: Vec<(String, String)> = self.first().redis().command(&command).await.unwrap();
        fields
            .iter()
            .filter(|(name, _)| name.starts_with("h:"))
            .map(|(_, held)| held.parse::<u32>().unwrap())
            .sum()
    }
}

impl Replica {
    fn redis(&self) -> &Redis {
        &self.budget.sharing.redis
    }

    async fn take(&self, messages: u32) -> Result<(), Refusal> {
        let messages = NonZeroU32::new(messages).unwrap();
        match self.budget.try_take(messages) {
            Some(taken) => taken,
            None => self.budget.ask(messages).await,
        }
    }

    /// Sends as fast as it can for as long as `until`; answers how many passed.
    async fn flood(&self, until: Instant) -> u32 {
        let mut passed = 0;
        while Instant::now() < until {
            passed += u32::from(self.take(1).await.is_ok());
            tokio::task::yield_now().await;
        }
        passed
    }

    /// Sends until it is refused; answers how many passed.
    async fn exhaust(&self) -> u32 {
        let mut passed = 0;
        while self.take(1).await.is_ok() {
            passed += 1;
        }
        passed
    }
}

#[tokio::test]
async fn three_replicas_let_no_more_pass_than_one_would_t34() {
    for limit in [5, 50, 500, 5000] {
        let Some(scene) = scene(3, limit, 1).await else { return };
        let (started, length) = (Instant::now(), Duration::from_millis(1500));
        let until = started + length;
        let floods = scene.replicas.iter().map(|replica| replica.flood(until));
        let passed: u32 = futures::future::join_all(floods).await.iter().sum();
        // The burst, and what refilled meanwhile.
        let allowed = f64::from(limit) * (1.0 + started.elapsed().as_secs_f64());
        assert!(f64::from(passed) <= allowed * 1.02, "{passed} of {allowed} at {limit}");
        assert!(f64::from(passed) >= allowed * 0.85, "{passed} of {allowed} at {limit}");
        scene.tasks.stop().await;
    }
}

#[tokio::test]
async fn what_is_leased_to_some_is_no_budget_of_others() {
    let Some(scene) = scene(3, 1000, 100).await else { return };
    for replica in &scene.replicas {
        replica.take(1).await.unwrap();
    }
    let started = Instant::now();
    let mut passed = 3;
    for replica in &scene.replicas {
        passed += replica.exhaust().await;
    }
    let allowed = 1000.0 + 10.0 * started.elapsed().as_secs_f64() + 1.0;
    assert!(f64::from(passed) <= allowed, "{passed} of {allowed}");
    // Each may leave no more than the lease that another holds.
    assert!(passed >= 850, "{passed}");
    scene.tasks.stop().await;
}

#[tokio::test]
async fn a_lease_that_nobody_uses_goes_back_and_a_replica_that_leaves_gives_all_back() {
    let Some(scene) = scene(2, 1000, 1000).await else { return };
    scene.first().take(1).await.unwrap();
    assert!(scene.leased().await > 0);
    let mut look = tokio::time::interval(LOOK);
    let given_back = async {
        while scene.leased().await > 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.unwrap();
    // All but the unit that was used, and what refilled in milliseconds.
    let left = scene.replicas[1].exhaust().await;
    assert!((998..=1001).contains(&left), "{left}");
    scene.tasks.stop().await;
}

#[tokio::test]
async fn the_same_trace_has_the_same_answers_as_in_one_process_within_one() {
    let Some(scene) = scene(1, 20, 1).await else { return };
    let alone = Local::new(scene.first().budget.limit);
    let (mut shared, mut local) = (0_i32, 0_i32);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    // Bursts of 0 to 6 with pauses between them, of which some let the budget fill up.
    for step in 0..75_u32 {
        pace.tick().await;
        let burst = if step % 25 > 15 { 0 } else { (step * 7) % 7 };
        for _ in 0..burst {
            shared += i32::from(scene.first().take(1).await.is_ok());
            local += i32::from(alone.take(ONE).is_ok());
        }
        assert!((shared - local).abs() <= 1, "{shared} and {local} after {step}");
    }
    scene.tasks.stop().await;
}

#[tokio::test]
async fn a_batch_is_covered_whole_or_not_at_all() {
    for limit in [50, 100] {
        let Some(scene) = scene(1, limit, 1000).await else { return };
        let replica = scene.first();
        replica.take(limit - 5).await.unwrap();
        let Err(Refusal::RateLimited { retry_after, .. }) = replica.take(7).await else { panic!("refused") };
        // Two units more, of a thousandth of the window each.
        let unit = Duration::from_secs(1000) / limit;
        assert!(retry_after > unit && retry_after <= unit * 2, "{retry_after:?}");
        replica.take(5).await.unwrap();
        assert!(replica.take(1).await.is_err());
        assert!(replica.take(limit + 1).await.is_err());
        scene.tasks.stop().await;
    }
}

#[tokio::test]
async fn who_floods_after_a_refusal_costs_redis_nothing() {
    let Some(scene) = scene(1, 2, 1000).await else { return };
    let replica = scene.first();
    assert_eq!(replica.exhaust().await, 2);
    let refused = replica.budget.try_take(ONE).expect("decided without Redis");
    let Err(Refusal::RateLimited { retry_after, limit: 2, window_s: 1000 }) = refused else {
        panic!("refused")
    };
    assert!(retry_after > Duration::from_secs(490) && retry_after <= Duration::from_secs(500));
    scene.tasks.stop().await;
}

#[tokio::test]
async fn what_else_stands_in_redis_is_put_right_f13() {
    let Some(scene) = scene(1, 10, 1000).await else { return };
    let replica = scene.first();
    let name = replica.redis().full_name(&replica.budget.name);
    let mut foreign = redis::cmd("SET");
    foreign.arg(&name).arg("nonsense");
    replica.redis().command::<()>(&foreign).await.unwrap();
    replica.take(1).await.unwrap();
    for nonsense in ["x", "1e300", "-1e300"] {
        let mut command = redis::cmd("HSET");
        command.arg(&name).arg("tat").arg(nonsense).arg("h:x").arg("1e9").arg("e:x").arg("y");
        replica.redis().command::<u32>(&command).await.unwrap();
        replica.budget.refused_until.store(0, Ordering::Relaxed);
        let passed = replica.exhaust().await;
        assert!([0, 10].contains(&passed), "{passed} after {nonsense}");
    }
    // As after FLUSHALL: the count begins anew.
    replica.redis().command::<u32>(redis::cmd("DEL").arg(&name)).await.unwrap();
    replica.redis().command::<()>(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    replica.budget.refused_until.store(0, Ordering::Relaxed);
    assert_eq!(replica.exhaust().await, 10);
    assert!(replica.redis().is_up());
    scene.tasks.stop().await;
}

#[tokio::test]
async fn without_redis_the_setting_says_what_becomes_of_limits_f13() {
    let Some(scene) = scene(2, 1000, 1000).await else { return };
    let replica = &scene.replicas[1];
    replica.take(1).await.unwrap();
    assert_eq!(replica.redis().replicas(), 2);
    // Gone for good, as far as this replica can see.
    scene.tasks.stop().await;
    let passed = replica.exhaust().await;
    assert!((500..=501).contains(&passed), "half of it: {passed}");
    let set = |redis_lost| {
        replica.settings.send_modify(|settings| Arc::make_mut(settings).limits.redis_lost = redis_lost);
    };
    set(RedisLost::Open);
    replica.take(1000).await.unwrap();
    set(RedisLost::Closed);
    let refused = Refusal::LimitsLost { retry_after: CLOSED_RETRY_AFTER };
    assert_eq!(replica.take(1).await, Err(refused));
}
