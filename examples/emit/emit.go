// Tells a user that an analysis is complete:  go run emit.go demo
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

var client = http.Client{Timeout: 10 * time.Second}

func emit(user, event string, data any) (int, error) {
	body, err := json.Marshal(map[string]any{"user": user, "event": event, "data": data})
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequest("POST", setting("SOCKRING_URL", "http://localhost:8080")+"/api/v1/websocket/emit", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("x-api-key", os.Getenv("API_KEY"))
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct {
		Message string
		Data    struct{ Delivered int }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%d %s", response.StatusCode, answer.Message)
	}
	return answer.Data.Delivered, nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	user := "demo"
	if len(os.Args) > 1 {
		user = os.Args[1]
	}
	delivered, err := emit(user, "analysis:completed", map[string]any{"interviewId": "42", "score": 0.75})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("delivered:", delivered)
}
