// Package extension runs actions that are programs of their own, in any language:
// an executable that is started with forsund, kept running, and spoken to with one
// JSON object a line, on its standard input and output.
//
// # The protocol, version 1
//
// Every message is one JSON object on one line, in UTF-8, ended by a line feed. A
// line of the extension has at most MaxLine bytes. Fields that a side does not know
// it ignores, so that later versions may add some; a message of an unknown type, or
// an answer to nothing that was asked, ends the process. Messages of forsund have
// their fields in the order given here, without blanks between.
//
// The start. forsund writes the first line; the extension answers within
// Options.StartTimeout, and writes nothing before:
//
//	→ {"type":"hello","protocols":[1],"name":"NAME","forsun":"VERSION"}
//	← {"type":"hello","protocol":1,"name":"NAME","version":"1.0","concurrency":8,
//	   "timeout":30,"params_bytes":65536,"check":true,
//	   "parameters":[{"name":"to","required":true,"values":["a","b"]}]}
//
//	protocol      one of protocols
//	name          what forsund called it: the action's name
//	version       its own, at most 64 bytes; for the log
//	concurrency   executions at a time, 1 to MaxConcurrency; 1 if not given
//	timeout       seconds that an attempt may take where its plan sets no
//	              forsun.timeout: above 0, at most 86400; 30 if not given
//	params_bytes  what the names and values of a plan's parameters may have together;
//	              no bound of its own if not given
//	check         it wants to be asked about the parameters of each plan that is created
//	parameters    which parameters there are, as far as forsund is to check them:
//	              "required" ones, which must not be empty, and the "values" they
//	              may have. Others are let through.
//
// A plan is created. If "check" was true, forsund asks; the answer must not wait for
// executions that run. A parameter is named if it is the one that is wrong:
//
//	→ {"type":"check","id":1,"params":{"to":"a"}}
//	← {"type":"checked","id":1}
//	← {"type":"checked","id":1,"error":"there is no such list","parameter":"to"}
//
// A firing is due. At most "concurrency" of them run at a time, and answers come in
// any order:
//
//	→ {"type":"execute","id":2,"key":"k","due":1795479950,"firing":"7a38…","attempt":1,
//	   "missed":0,"timeout_ms":30000,"params":{"to":"a"}}
//	← {"type":"result","id":2,"output":"sent"}
//	← {"type":"result","id":2,"error":"no answer","retryable":true,"retry_after":5,"output":"…"}
//
//	key          of the plan
//	due          the second it is due, Unix
//	firing       its id, the same for every attempt
//	attempt      1, 2, …
//	missed       how many missed due seconds it stands for beside its own
//	timeout_ms   how long the attempt may take from now on
//	params       the plan's, without options (names under "forsun.")
//	output       for the history, of which 4 KiB are kept; may be left out
//	error        why it failed; empty or left out: it succeeded
//	retryable    whether another attempt may help; true if not given
//	retry_after  seconds to wait at least before that, at most 86400
//
// An attempt whose time is over, or that is cut off since forsund stops, is
// cancelled. The extension answers the execution then, with whatever result it has;
// if there is none within Options.Grace, the process is killed:
//
//	→ {"type":"cancel","id":2}
//
// A check is cancelled, too, when its answer takes longer than Options.CheckTimeout;
// the create is refused then. Its answer may come later, but not more than HangTimeout.
//
// The end. forsund closes the extension's standard input. If it has not ended a
// Grace later its process group gets SIGTERM, and another Grace later SIGKILL. What
// it leaves in its process group is killed, too. If forsund dies, the end of the input
// is all an extension hears (on Linux its process is killed).
//
// # What else there is
//
// The process runs in a process group of its own, as forsund's user, in the directory of its
// executable. Its environment is PATH and FORSUN_ACTION, its name. What it writes to its
// standard error goes to forsund's log, line by line: 1 KiB of each, 50 lines a second.
//
// When the process ends, sends what is no message or too long a line, does not
// answer, or does not read, what is left of it is killed and the process is started
// again, after 0.1 s, doubled each time up to 30 s, until one has lived for 10 s.
// What it was running failed, and is retried. While it is away no firings are taken for it:
// they stay in the queue, for another replica or until it is back. Plans for it
// cannot be created here meanwhile.
//
// Guarantees: no more than the declared concurrency is running. Memory is bounded
// whatever the process does. No error, output or line of the log holds a secret of
// the parameters of what runs (see scheduler.Secrets).
//
// Not guaranteed: that an attempt that failed had no effect; retries come under
// the same firing id. That a line on standard error which comes after its firing's
// result holds no secret.
package extension
