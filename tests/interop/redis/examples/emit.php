<?php
// Emits to a user through Redis: php emit.php USER. Needs: apt-get install php-cli php-redis php-msgpack
ini_set('msgpack.php_only', '0');

$url = parse_url(getenv('REDIS_URL') ?: 'redis://127.0.0.1:6379');
$redis = new Redis();
$redis->connect($url['host'], $url['port'] ?? 6379);

function emit(Redis $redis, string $room, string $event, ...$args): void
{
    $packet = ['type' => 2, 'data' => [$event, ...$args], 'nsp' => '/'];
    $message = ['emitter', $packet, ['rooms' => [$room], 'except' => []]];
    $redis->publish("socket.io#/#$room#", msgpack_pack($message));
}

emit($redis, 'user:' . $argv[1], 'analysis:completed', ['interviewId' => '42', 'score' => 0.5, 'tags' => ['a', 'é🎉']]);
