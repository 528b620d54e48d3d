// What the pages ask of the example's backend.
const ask = (path, options) => fetch(`/backend${path}`, options);

export const getToken = async (user) => (await ask(`/token?user=${encodeURIComponent(user)}`)).text();
export const getAnalyses = async (user) => (await ask(`/analyses?user=${encodeURIComponent(user)}`)).json();
export const startAnalysis = (user, fails) => (
  ask(`/analyses?user=${encodeURIComponent(user)}${fails ? '&fail' : ''}`, { method: 'POST' })
);

const time = (ms) => new Date(ms).toLocaleTimeString();

// A status in words.
export function inWords(status) {
  switch (status.state) {
    case 'offline': return `Offline since ${time(status.since)}. What you see is from then; trying again.`;
    case 'refused': return `Not connected: ${status.message} (${status.code}).`;
    default: return '';
  }
}

// What an event of an analysis has the user told.
export function toastOf({ kind, payload }) {
  switch (kind) {
    case 'completed': return `Interview ${payload.interviewId} is analysed: ${payload.analysis.summary}`;
    case 'failed': return `Interview ${payload.interviewId}: ${payload.error}`;
    default: return '';
  }
}
