<?php
// Drives forsun behind a load balancer with Debian's php-thrift, each call on a
// connection of its own. Arguments: generated code, port, plans to list, connections.
error_reporting(E_ALL & ~E_DEPRECATED);
set_error_handler(function ($level, $text, $file, $line) {
    if (error_reporting() & $level) {
        throw new ErrorException($text, 0, $level, $file, $line);
    }
});
[, $generated, $port, $plans, $connections] = $argv;
$plans = (int)$plans;

// Debian keeps the library's namespace Thrift in /usr/lib/php itself.
spl_autoload_register(function ($class) use ($generated) {
    $path = str_starts_with($class, 'Thrift\\') ? '/usr/lib/php/' . strtr(substr($class, 7), '\\', '/') : "$generated/$class";
    if (is_file("$path.php")) {
        require "$path.php";
    }
});

function call(string $method, ...$args)
{
    global $port;
    $socket = new Thrift\Transport\TSocket('127.0.0.1', (int)$port);
    $socket->setRecvTimeout(60000);
    $transport = new Thrift\Transport\TBufferedTransport($socket, 1024, 1024);
    $client = new ForsunClient(new Thrift\Protocol\TBinaryProtocol($transport));
    $transport->open();
    try {
        return $client->$method(...$args);
    } finally {
        $transport->close();
    }
}

function check(bool $holds, $what): void
{
    if (!$holds) {
        throw new Exception(var_export($what, true));
    }
}

$replicas = [];
for ($i = 0; $i < 9; $i++) {
    $replicas[call('info')['bind_port']] = true;
}
check(count($replicas) == 3, $replicas);

$keys = [];
for ($at = 0; $at < $plans; $at += 1000) {
    $requests = [];
    for ($i = $at; $i < min($at + 1000, $plans); $i++) {
        $keys[] = sprintf('php-%05d', $i);
        $requests[] = new ForsunPlanRequest(['key' => end($keys), 'is_time_out' => true, 'second' => 5000, 'action' => 'shell', 'params' => ['cmd' => 'true']]);
    }
    foreach (call('createMany', $requests) as $result) {
        check($result->code == 0, $result);
    }
}
for ($i = 0; $i < (int)$connections; $i++) {
    $key = "php-one-$i";
    $now = time();
    $plan = call('createTimeout', $key, 3600, 0, 0, 0, 0, -1, 1, 'shell', ['cmd' => 'true', 'env' => 'a=键']);
    check($plan->key == $key && $plan->is_time_out && $now + 3600 <= $plan->next_time && $plan->next_time <= time() + 3600, $plan);
    $got = call('get', $key);
    ksort($got->params);
    ksort($plan->params);
    check($got == $plan, [$got, $plan]);
    check(in_array($key, array_map(fn ($p) => $p->key, call('getTime', $plan->next_time))), 'getTime');
    $daily = call('create', "$key-daily", 0, 30, 16, -1, -1, -1, 'shell', ['cmd' => 'true']);
    check(!$daily->is_time_out && $daily->next_time % 86400 == 16 * 3600 + 1800, $daily);
    check(call('getKeys', "$key-*") == ["$key-daily"], 'getKeys');
    foreach (call('getCurrent') as $p) {
        check(abs($p->next_time - time()) < 5, $p);
    }
    check(call('ping') === 0, 'ping');
    check(call('remove', $key)->key == $key, 'remove');
    foreach (['get', 'remove'] as $method) {
        $code = 0;
        try {
            call($method, $key);
        } catch (ForsunPlanError $e) {
            $code = $e->code;
        }
        check($code == 1003, "$method of what was removed: $code");
    }
    check(call('remove', "$key-daily")->key == "$key-daily", 'remove');
}
$all = call('getKeys', 'php-');
sort($all);
check($all == $keys, count($all));
printf("%d replicas, %d plans, %d calls\n", count($replicas), $plans, 9 + intdiv($plans, 1000) + 12 * (int)$connections + 1);
