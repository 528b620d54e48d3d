import { act, cleanup, render, screen } from '@testing-library/react';
import { StrictMode, useState } from 'react';
import { afterEach, expect, it } from 'vitest';
import { SockringProvider, useAnalysis, useConnection, useEvent } from '../src/react.js';
import { createFakeClient } from '../src/testing.js';

afterEach(cleanup);

const common = { interviewId: '42', message: 'm', status: 's', timestamp: 't', server: 'test' };

function View({ interviewId }: { interviewId: string }) {
  const { status, isConnected } = useConnection();
  const { state, progress } = useAnalysis(interviewId);
  const [reports, setReports] = useState(0);
  useEvent('report:generated', () => setReports(reports + 1)); // a stale listener would stay at 1
  return <p role="status">{`${status.state} ${isConnected} ${state} ${progress ?? '-'} ${reports}`}</p>;
}

it('renders what the client knows, also in strict mode', () => {
  const client = createFakeClient();
  const { rerender, unmount } = render(
    <StrictMode><SockringProvider client={client}><View interviewId="42" /></SockringProvider></StrictMode>,
  );
  const text = () => screen.getByRole('status').textContent;
  expect(text()).toBe('idle false unknown - 0');
  act(() => client.connect());
  act(() => client.receive('analysis:progress', { ...common, progress: 7 }));
  expect(text()).toBe('connected true processing 7 0');
  act(() => client.receive('report:generated', {}));
  act(() => client.receive('report:generated', {}));
  act(() => client.drop());
  expect(text()).toBe('offline false processing 7 2');
  act(() => client.refuse('token_expired'));
  rerender(<StrictMode><SockringProvider client={client}><View interviewId="43" /></SockringProvider></StrictMode>);
  expect(text()).toBe('refused false unknown - 2');
  unmount();
  client.receive('report:generated', {});
});

it('says what is missing where no provider is', () => {
  expect(() => render(<View interviewId="42" />)).toThrow('SockringProvider');
});
