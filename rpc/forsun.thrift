// The Thrift interface of forsun.
//
// The first part, up to forsun_call, is spoken by clients in many languages and
// never changes: names, ids, types and defaults stay as they are. What came
// later is appended to the service, with structures of its own and integers wide
// enough for every value a plan can hold.

exception ForsunPlanError{
    1:i16 code,
    2:string message
}

struct ForsunPlan {
    1: required bool is_time_out,
    2: required string key,
    3: required i16 second,
    4: i16 minute = -1,
    5: i16 hour = -1,
    6: i16 day = -1,
    7: i16 month = -1,
    8: i16 week = -1,
    9: required i32 next_time,
    10: i16 status = 0,
    11: i16 count = 0,
    12: i16 current_count = 0,
    13: i32 last_timeout = 0,
    14:string action = "shell",
    15:map<string, string> params = {}
}

// A stored plan in full. Times are Unix seconds.
struct ForsunPlanInfo {
    1: required string key,
    2: bool is_time_out = false,
    3: i64 second = -1,
    4: i64 minute = -1,
    5: i64 hour = -1,
    6: i64 day = -1,
    7: i64 month = -1,
    8: i64 week = -1,
    9: i64 count = 0,         // timeout plans: firings in all; 0: no end
    10: i64 next_time = 0,
    11: i32 status = 0,       // how the last finished firing ended: 0 none yet, 1 succeeded, -1 failed
    12: i64 current_count = 0, // firings so far
    13: i64 last_timeout = 0, // due second of the last firing, 0 before the first
    14: double created_time = 0.0,
    15: string action = "shell",
    16: map<string, string> params = {}
}

// A page of plans. The cursor asks for the next page; "" after the last.
struct ForsunPlanPage {
    1: required list<ForsunPlanInfo> plans,
    2: required string cursor
}

// Asks for a plan, as create and createTimeout do.
struct ForsunPlanRequest {
    1: required string key,
    2: bool is_time_out = false,
    3: i64 second = -1,
    4: i64 minute = -1,
    5: i64 hour = -1,
    6: i64 day = -1,
    7: i64 month = -1,
    8: i64 week = -1,
    9: i64 count = 1,
    10: string action = "shell",
    11: map<string, string> params = {}
}

// The answer to one request of many: the plan, or why it was not stored.
struct ForsunPlanResult {
    1: optional ForsunPlanInfo plan,
    2: i32 code = 0,          // 0, or a code of ForsunPlanError
    3: string message = ""
}

// One finished run of a firing. Times are Unix milliseconds, but due: a Unix second.
struct ForsunAttempt {
    1: required string key,
    2: required string firing,
    3: i64 due = 0,
    4: i32 attempt = 0,
    5: i64 missed = 0,        // 0, or how many missed due seconds it stood for
    6: string action = "",
    7: i64 started_ms = 0,
    8: i64 late_ms = 0,       // started - due
    9: i64 took_ms = 0,
    10: string outcome = "",  // succeeded, failed (and to be retried), dead, cancelled
    11: string error = "",
    12: string output = "",   // the head of what the action printed or was answered
    13: string replica = "",
    14: i64 retry_at_ms = 0
}

struct ForsunAttemptPage {
    1: required list<ForsunAttempt> attempts,
    2: required string cursor
}

// A firing that failed for the last time. Secrets in the plan's params are masked.
struct ForsunDead {
    1: required string id,    // names it in redrive and purge
    2: required string firing,
    3: i64 due = 0,
    4: i32 attempt = 0,
    5: i64 missed = 0,
    6: i64 died_ms = 0,
    7: string error = "",
    8: required ForsunPlanInfo plan
}

struct ForsunDeadPage {
    1: required list<ForsunDead> dead,
    2: required string cursor
}

struct ForsunShard {
    1: required i32 shard,
    2: string leader = "",    // replica; "" if vacant
    3: i64 term = 0,
    4: i64 plans = 0,
    5: i64 overdue = 0,
    6: i64 oldest_due = 0,
    7: map<string, i64> queued = {},  // by action: claimed, not taken
    8: map<string, i64> running = {}, // by action: taken, not finished
    9: i64 retries = 0,
    10: i64 dead = 0,
    11: i64 quarantined = 0
}

// A forsund of the deployment, as it last announced itself.
struct ForsunReplica {
    1: required string id,
    2: string address = "",   // where its Thrift server listens
    3: string version = "",
    4: i64 offset_us = 0,     // its clock minus the store's, microseconds
    5: list<i32> leads = [],  // shards
    6: bool eager = true,     // it may lead
    7: i64 started_ms = 0,
    8: i64 seen_ms = 0        // by the store's clock
}

// Something that is not, or may not be, as it should be.
struct ForsunFinding {
    1: required i32 shard,    // -1: not about one shard
    2: required string severity, // error, warning, info
    3: string subject = "",
    4: string problem = "",
    5: string advice = ""     // "": nothing to do
}

// The server's clock and the zone it reads calendar plans in.
struct ForsunServerTime {
    1: required i64 time_ms,
    2: required string zone,  // IANA name
    3: i32 offset = 0         // of the zone now, seconds east of UTC
}

// What became of a plan of restorePlans.
struct ForsunRestored {
    1: required i32 outcome,  // 0 stored; 1 there is a plan of its key, which was left; 2 not stored
    2: i64 next_time = 0,     // of a plan that is stored
    3: i32 code = 0,          // why it is not, or (1011) not surely: as in ForsunPlanError
    4: string message = ""
}

// A backup that was made.
struct ForsunBackup {
    1: required string directory,
    2: i64 plans = 0,
    3: i64 files = 0,
    4: i64 bytes = 0,
    5: i64 took_ms = 0
}

service Forsun{
    i16 ping(),
    ForsunPlan create(1:string key, 2:i16 second, 3:i16 minute = -1, 4:i16 hour = -1, 5:i16 day = -1, 6:i16 month = -1, 7:i16 week = -1, 8:string action="shell", 9:map<string, string> params={}) throws (1:ForsunPlanError err),
    ForsunPlan createTimeout(1:string key, 2:i16 second, 3:i16 minute = -1, 4:i16 hour = -1, 5:i16 day = -1, 6:i16 month = -1, 7:i16 week = -1, 8:i16 count=1, 9:string action="shell", 10:map<string, string> params={}) throws (1:ForsunPlanError err),
    ForsunPlan remove(1:string key) throws (1:ForsunPlanError err),
    ForsunPlan get(1:string key) throws (1:ForsunPlanError err),
    list<ForsunPlan> getCurrent(),
    list<ForsunPlan> getTime(1:i32 timestamp),
    list<string> getKeys(1:string prefix),
    void forsun_call(1:string key, 2:i32 ts, 3:map<string, string> params),
    map<string, string> info(),

    // A stored plan in full.
    ForsunPlanInfo getPlan(1:string key) throws (1:ForsunPlanError err),
    // Plans by key, in byte order; limit 1 to 10000, a page may hold fewer.
    ForsunPlanPage listPlans(1:string prefix, 2:string cursor, 3:i32 limit=1000) throws (1:ForsunPlanError err),
    // Plans whose next_time is timestamp.
    ForsunPlanPage listTime(1:i64 timestamp, 2:string cursor, 3:i32 limit=1000) throws (1:ForsunPlanError err),
    // Up to 1000 plans. All are checked before any is stored: a bad one is thrown
    // and nothing is stored. What the store then refuses is in its result.
    list<ForsunPlanResult> createMany(1:list<ForsunPlanRequest> requests) throws (1:ForsunPlanError err),
    // Finished attempts, newest first, of one plan or ("") of all.
    ForsunAttemptPage history(1:string key, 2:string cursor, 3:i32 limit=100) throws (1:ForsunPlanError err),
    // Dead letters, newest first, of one plan or ("") of all.
    ForsunDeadPage deadLetters(1:string key, 2:string cursor, 3:i32 limit=100) throws (1:ForsunPlanError err),
    // Queue dead letters again, or forget them: those of ids, of key, or all.
    i64 redrive(1:list<string> ids, 2:string key, 3:bool all=false) throws (1:ForsunPlanError err),
    i64 purge(1:list<string> ids, 2:string key, 3:bool all=false) throws (1:ForsunPlanError err),
    // The next n due seconds of a plan, 1 to 1000.
    list<i64> preview(1:string key, 2:i32 n=10) throws (1:ForsunPlanError err),
    list<ForsunShard> shards() throws (1:ForsunPlanError err),
    ForsunServerTime serverTime(),
    // Replicas seen lately, by id.
    list<ForsunReplica> replicas() throws (1:ForsunPlanError err),
    // What is wrong, the worst first; it looks through all that is stored and may
    // take a minute.
    list<ForsunFinding> check() throws (1:ForsunPlanError err),
    // Shows a token: from here on the connection may do what the token may. It
    // answers with the token's name; after one that is not valid the connection ends.
    string auth(1:string token) throws (1:ForsunPlanError err),
    // Stores up to 1000 plans as another store had them: next_time, current_count,
    // last_timeout, status and created_time are kept (0: as of a new plan). A plan
    // whose key has one is left out unless replace is given. check_only stores
    // nothing and answers what it would. One bad plan does not affect the others.
    list<ForsunRestored> restorePlans(1:list<ForsunPlanInfo> plans, 2:bool replace=false, 3:bool check_only=false) throws (1:ForsunPlanError err),
    // Has forsund write a backup of its embedded store into a directory of its own
    // machine: an absolute path, which must not be there yet, or be empty. For
    // loopback and authenticated peers only.
    ForsunBackup backup(1:string directory) throws (1:ForsunPlanError err)
}
