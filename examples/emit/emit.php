<?php
// Tells a user that an analysis is complete:  php emit.php demo
declare(strict_types=1);

function emit(string $user, string $event, array $data): int
{
    $url = getenv('SOCKRING_URL') ?: 'http://localhost:8080';
    $key = getenv('API_KEY') ?: '';
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => "content-type: application/json\r\nx-api-key: $key",
        'content' => json_encode(['user' => $user, 'event' => $event, 'data' => $data], JSON_THROW_ON_ERROR),
        'timeout' => 10,
        'ignore_errors' => true, // the words of a refusal are in its body
    ]]);
    $body = file_get_contents("$url/api/v1/websocket/emit", false, $context);
    if ($body === false) {
        throw new RuntimeException("$url does not answer");
    }
    $answer = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    if (!$answer['success']) {
        throw new RuntimeException("{$answer['statusCode']} {$answer['message']}");
    }
    return $answer['data']['delivered'];
}

echo 'delivered: ', emit($argv[1] ?? 'demo', 'analysis:completed', ['interviewId' => '42', 'score' => 0.75]), "\n";
