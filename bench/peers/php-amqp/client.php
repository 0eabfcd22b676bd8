<?php
// The jobs of bench/peers/README.md with PHP's ext-amqp. It does not reconnect: there is no job `consumers`.

declare(strict_types=1);

const RATE = 500;
const WINDOW = 1000;
const PREFETCH = 200;
const SIZES = ['small' => 1, '10k' => 144, '1m' => 15000];

function order(int $i, int $items = 1): array
{
    $list = [];
    for ($n = 0; $n < $items; $n++) {
        $list[] = ['product_id' => 'prod_456', 'sku' => 'SKU001', 'quantity' => $i % 5 + 1, 'price' => 500.00];
    }
    return [
        'order_id' => 'order_xyz', 'order_number' => 'ORD-2024-001', 'customer_id' => 'cust_123', 'items' => $list,
        'total' => 1000.00, 'currency' => 'UAH', 'status' => 'pending',
    ];
}

function event(array $data): array
{
    $b = random_bytes(16);
    $b[6] = chr(ord($b[6]) & 0x0f | 0x40);
    $b[8] = chr(ord($b[8]) & 0x3f | 0x80);
    $id = vsprintf('evt_%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($b), 4));
    return [
        'id' => $id, 'type' => 'order.created', 'source' => 'oms-service',
        'timestamp' => (new DateTimeImmutable('now', new DateTimeZone('UTC')))->format('Y-m-d\TH:i:s.v\Z'),
        'tenant_id' => 'tenant_abc', 'data' => $data,
    ];
}

function encode(array $event): string
{
    return json_encode($event, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION);
}

function decode(string $text): array
{
    return json_decode($text, true, 512, JSON_THROW_ON_ERROR);
}

function now(): float
{
    return hrtime(true) / 1e9;
}

function cpu(): float
{
    $total = 0.0;
    foreach ([0, 1] as $who) {
        $u = getrusage($who);
        $total += $u['ru_utime.tv_sec'] + $u['ru_stime.tv_sec'] + ($u['ru_utime.tv_usec'] + $u['ru_stime.tv_usec']) / 1e6;
    }
    return $total;
}

function begin(): void
{
    global $wall, $spent;
    $wall = now();
    $spent = cpu();
}

function finish(int $events, string $more = ''): void
{
    global $wall, $spent;
    printf("events=%d seconds=%.6f cpu=%.6f rss_kb=%d%s\n", $events, now() - $wall, cpu() - $spent,
        getrusage()['ru_maxrss'], $more);
}

function fail(string $text): never
{
    fwrite(STDERR, $text . "\n");
    exit(1);
}

function open_channel(string $url): AMQPChannel
{
    $part = parse_url($url);
    $connection = new AMQPConnection([
        'host' => $part['host'], 'port' => $part['port'] ?? 5672, 'login' => $part['user'] ?? 'guest',
        'password' => $part['pass'] ?? 'guest', 'vhost' => isset($part['path']) ? urldecode(substr($part['path'], 1)) : '/',
        'read_timeout' => 60,
    ]);
    $connection->connect();
    return new AMQPChannel($connection);
}

function declare_queue(AMQPChannel $channel, string $name): AMQPQueue
{
    $queue = new AMQPQueue($channel);
    $queue->setName($name);
    $queue->setFlags(AMQP_DURABLE);
    $queue->declareQueue();
    return $queue;
}

function send(AMQPExchange $exchange, string $queue, int $i): void
{
    $e = event(order($i));
    $exchange->publish(encode($e), $queue, AMQP_NOPARAM, [
        'content_type' => 'application/json', 'delivery_mode' => 2, 'type' => $e['type'], 'app_id' => $e['source'],
        'message_id' => $e['id'], 'timestamp' => time(), 'headers' => ['tenant_id' => $e['tenant_id']],
    ]);
}

// What is confirmed is counted by tag: acks come with `multiple` or one by one, in any order.
class Confirms
{
    public int $sent = 0;
    public int $confirmed = 0;
    private int $contiguous = 0;
    private array $apart = [];

    public function __construct(private AMQPChannel $channel)
    {
        $channel->confirmSelect();
        $channel->setConfirmCallback(function (int $tag, bool $multiple): bool {
            if ($multiple) {
                for (; $this->contiguous < $tag; $this->contiguous++) unset($this->apart[$this->contiguous + 1]);
            } else {
                $this->apart[$tag] = true;
            }
            while (isset($this->apart[$this->contiguous + 1])) unset($this->apart[++$this->contiguous]);
            $this->confirmed = $this->contiguous + count($this->apart);
            return false;
        }, fn () => fail('not confirmed'));
    }

    public function below(int $count): void
    {
        while ($this->sent - $this->confirmed >= $count) $this->channel->waitForConfirm(60);
    }
}

function publish(int $events, string $url, string $queue, int $window): void
{
    $warm = intdiv($events, 10);
    $channel = open_channel($url);
    declare_queue($channel, $queue);
    $confirms = new Confirms($channel);
    $exchange = new AMQPExchange($channel);
    for ($i = 0; $i < $warm + $events; $i++) {
        if ($i === $warm) {
            $confirms->below(1);
            begin();
        }
        $confirms->below($window);
        send($exchange, $queue, $i);
        $confirms->sent++;
    }
    $confirms->below(1);
    finish($events);
}

function publish_none(int $events, string $url, string $queue): void
{
    $warm = intdiv($events, 10);
    $channel = open_channel($url);
    declare_queue($channel, $queue);
    $exchange = new AMQPExchange($channel);
    for ($i = 0; $i < $warm + $events; $i++) {
        if ($i === $warm) begin();
        send($exchange, $queue, $i);
    }
    declare_queue($channel, $queue);
    finish($events);
}

function consume(int $events, string $url, string $queue): void
{
    $warm = intdiv($events, 10);
    $channel = open_channel($url);
    $channel->qos(0, PREFETCH);
    $seen = 0;
    $total = 0.0;
    if ($warm === 0) begin();
    declare_queue($channel, $queue)->consume(function (AMQPEnvelope $m, AMQPQueue $q) use (&$seen, &$total, $warm, $events) {
        $total += decode($m->getBody())['data']['total'];
        $q->ack($m->getDeliveryTag());
        $seen++;
        if ($seen === $warm) begin();
        return $seen < $warm + $events;
    });
    finish($events);
    if ($total !== 1000.0 * $seen) fail('the totals do not add up');
}

function send_at_rate(int $events, AMQPChannel $channel, string $queue, $out): void
{
    $exchange = new AMQPExchange($channel);
    $sent = [];
    $start = now();
    for ($i = 0; $i < $events; $i++) {
        $pause = $start + $i / RATE - now();
        if ($pause > 0) usleep((int) ($pause * 1e6));
        $sent[] = now();
        send($exchange, $queue, $i);
    }
    fwrite($out, json_encode($sent));
    fclose($out);
}

// Two processes: the extension waits for deliveries or publishes. Its confirms have to be waited for, so here are none.
function latency(int $events, string $url, string $queue): void
{
    $warm = intdiv($events, 10);
    $all = $warm + $events;
    $ends = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    $sender = open_channel($url);
    $channel = open_channel($url);
    $channel->qos(0, PREFETCH);
    $source = declare_queue($channel, $queue);
    begin();
    $child = pcntl_fork();
    if ($child === 0) {
        fclose($ends[0]);
        send_at_rate($all, $sender, $queue, $ends[1]);
        posix_kill(getmypid(), SIGKILL);
    }
    fclose($ends[1]);
    $taken = [];
    $source->consume(function (AMQPEnvelope $m, AMQPQueue $q) use (&$taken, $all) {
        decode($m->getBody());
        $taken[] = now();
        $q->ack($m->getDeliveryTag());
        return count($taken) < $all;
    });
    $sent = json_decode(stream_get_contents($ends[0]));
    pcntl_waitpid($child, $status);
    $waits = [];
    for ($i = $warm; $i < $all; $i++) $waits[] = $taken[$i] - $sent[$i];
    sort($waits);
    $at = fn (float $p): float => $waits[(int) ceil(count($waits) * $p) - 1] * 1e6;
    finish($all, sprintf(' p50_us=%.0f p99_us=%.0f p999_us=%.0f', $at(0.5), $at(0.99), $at(0.999)));
}

function topology(int $events, string $url, string $queue): void
{
    $channel = open_channel($url);
    begin();
    for ($i = 1; $i <= $events; $i++) declare_queue($channel, "$queue.$i");
    finish($events);
}

function json(string $what, int $events, int $items): void
{
    $e = event(order(1, $items));
    $text = encode($e);
    $warm = intdiv($events, 10);
    for ($i = 0; $i < $warm + $events; $i++) {
        if ($i === $warm) begin();
        $what === 'encode' ? encode($e) : decode($text);
    }
    finish($events, ' bytes=' . strlen($text));
}

if ($argc !== 5) fail('usage: client JOB EVENTS URL QUEUE');
[, $job, $events, $url, $queue] = $argv;
$events = (int) $events;
[$what, $size] = explode('-', $job . '-');
match (true) {
    $job === 'publish' => publish($events, $url, $queue, WINDOW),
    $job === 'publish-one' => publish($events, $url, $queue, 1),
    $job === 'publish-none' => publish_none($events, $url, $queue),
    $job === 'consume' => consume($events, $url, $queue),
    $job === 'latency' => latency($events, $url, $queue),
    $job === 'topology' => topology($events, $url, $queue),
    ($what === 'encode' || $what === 'decode') && isset(SIZES[$size]) => json($what, $events, SIZES[$size]),
    default => fail("no such job: $job"),
};
