# Tells a user that an analysis is complete:  ruby emit.rb demo
require 'json'
require 'net/http'

def emit(user, event, data)
  url = URI("#{ENV.fetch('SOCKRING_URL', 'http://localhost:8080')}/api/v1/websocket/emit")
  headers = { 'content-type' => 'application/json', 'x-api-key' => ENV.fetch('API_KEY', '') }
  response = Net::HTTP.post(url, JSON.generate(user: user, event: event, data: data), headers)
  answer = JSON.parse(response.body)
  raise "#{response.code} #{answer['message']}" unless response.is_a?(Net::HTTPOK)

  answer['data']['delivered']
end

puts "delivered: #{emit(ARGV.fetch(0, 'demo'), 'analysis:completed', { interviewId: '42', score: 0.75 })}"
