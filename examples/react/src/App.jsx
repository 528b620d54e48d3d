import { useEffect, useMemo, useState } from 'react';
import { createClient } from '@sockring/client';
import { SockringProvider, useAnalysis, useClient, useConnection, useEvent } from '@sockring/client/react';
import { getAnalyses, getToken, inWords, startAnalysis, toastOf } from '../../frontend/user.js';

export function App() {
  const [user, setUser] = useState('');
  return user ? <Account user={user} leave={() => setUser('')} /> : <Login enter={setUser} />;
}

function Login({ enter }) {
  const submit = (event) => {
    event.preventDefault();
    enter(new FormData(event.target).get('user'));
  };
  return (
    <form className="row" onSubmit={submit}>
      <h1>Interviews</h1>
      <input name="user" aria-label="Your name" placeholder="Your name" required autoFocus />
      <button>Log in</button>
    </form>
  );
}

// Connected while somebody is logged in.
function Account({ user, leave }) {
  const client = useMemo(() => createClient({ getToken: () => getToken(user), autoConnect: false }), [user]);
  useEffect(() => {
    client.connect();
    return () => client.disconnect();
  }, [client]);
  return <SockringProvider client={client}><Interviews user={user} leave={leave} /></SockringProvider>;
}

function Interviews({ user, leave }) {
  const { status } = useConnection();
  const [interviews, setInterviews] = useState({});
  const [toast, setToast] = useState('');
  const keep = (known) => setInterviews((all) => ({ ...all, [known.interviewId]: known }));

  useEvent('analysis:started', ({ interviewId }) => keep({ interviewId }));
  // After a break, what was missed was either sent behind the connection, or is fetched.
  useEffect(() => {
    if (status.state !== 'connected' || status.recovered) return;
    void getAnalyses(user).then((all) => all.forEach(keep));
    if (status.offlineSince) setToast('Back online, and up to date');
  }, [status, user]);

  const list = Object.values(interviews).reverse();
  return (
    <>
      <header>
        <h1>Interviews of {user}</h1>
        <span className={`pill ${status.state}`} role="status">{status.state}</span>
        <button className="quiet" onClick={leave}>Log out</button>
      </header>
      {inWords(status) && <p className="banner" role="alert">{inWords(status)}</p>}
      <p className="row">
        <button onClick={() => startAnalysis(user)}>Analyse a video</button>
        <button className="quiet" onClick={() => startAnalysis(user, true)}>Analyse a broken one</button>
      </p>
      <ul>{list.map((known) => <Interview key={known.interviewId} known={known} tell={setToast} />)}</ul>
      {toast && <p className="toast" role="status" onClick={() => setToast('')}>{toast}</p>}
    </>
  );
}

// `known`: what the backend said; newer is what events have told since.
function Interview({ known, tell }) {
  const { interviewId } = known;
  const client = useClient();
  const heard = useAnalysis(interviewId);
  useEffect(() => client.analysis(interviewId).on((event) => {
    const toast = toastOf(event);
    if (toast) tell(toast);
  }), [client, interviewId, tell]);
  const { state, progress } = heard.state === 'unknown' ? known : heard;
  return (
    <li>
      <span className="row"><strong>{interviewId}</strong> {state}</span>
      {state === 'processing' && <progress max="100" value={progress} aria-label={`Analysis of ${interviewId}`} />}
    </li>
  );
}
