// Tells a user that an analysis is complete:  java Emit.java demo
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Map;

class Emit {
    private static final Map<String, String> ENVIRONMENT = System.getenv();
    private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    /** `body` is JSON: with Jackson or Gson, that of an object with `user`, `event` and `data`. */
    static String emit(String body) throws Exception {
        var url = ENVIRONMENT.getOrDefault("SOCKRING_URL", "http://localhost:8080");
        var request = HttpRequest.newBuilder(URI.create(url + "/api/v1/websocket/emit"))
            .timeout(Duration.ofSeconds(10))
            .header("content-type", "application/json")
            .header("x-api-key", ENVIRONMENT.getOrDefault("API_KEY", ""))
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        var response = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new IllegalStateException(response.statusCode() + " " + response.body());
        }
        return response.body();
    }

    public static void main(String[] arguments) throws Exception {
        var user = arguments.length > 0 ? arguments[0] : "demo";
        System.out.println(emit("""
            {"user": "%s", "event": "analysis:completed", "data": {"interviewId": "42", "score": 0.75}}"""
            .formatted(user)));
    }
}
