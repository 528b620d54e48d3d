// Tells a user that an analysis is complete:  node emit.mjs demo
const { SOCKRING_URL = 'http://localhost:8080', API_KEY = '' } = process.env;

export async function emit(user, event, data) {
  const response = await fetch(`${SOCKRING_URL}/api/v1/websocket/emit`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': API_KEY },
    body: JSON.stringify({ user, event, data }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status} ${answer.message}`);
  return answer.data.delivered;
}

const [user = 'demo'] = process.argv.slice(2);
console.log('delivered:', await emit(user, 'analysis:completed', { interviewId: '42', score: 0.75 }));
