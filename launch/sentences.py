"""Everyday sentences for the demo's search, and queries that paraphrase some of them.

They were written before any search was run on them. None was changed or left out afterwards.
"""

SENTENCES = """
My soup was lukewarm and our server was impolite.
The food was good and the service was great.
The waiter brought us a second bottle of wine.
We had to wait an hour before anybody took our order.
This bakery makes the best bread in town.
The pizza was burnt, so we sent it back.
The weather was cold and the journey was long.
Our flight was cancelled because of the storm.
It has been raining since early this morning.
The sun came out as soon as we reached the beach.
The roads were icy, and several cars slid into the ditch.
The train was packed, and I had to stand all the way.
A dog is running across a field of snow.
A puppy plays in the snow.
Two cats are sleeping on the sofa.
The horse jumped over the fence and ran away.
Birds sing outside my window every morning.
My little sister is afraid of spiders.
The bank raised its interest rates on Friday.
The company said its profit rose last year.
The factory will close, and two hundred people will lose their jobs.
Petrol has become so expensive that I take the bus.
She borrowed money from her parents to buy a flat.
The shop gives a discount to students.
He could not sleep because of the noise.
I have had a headache all day.
The doctor told him to stop smoking.
She broke her leg while she was skiing.
My grandmother is ninety and still walks every day.
The baby has a fever and keeps crying.
She is learning to play the violin.
The choir sings in the old church every Sunday.
He painted the kitchen walls yellow.
The film was so boring that we left early.
I read three books during my holiday.
The museum is closed on Mondays.
Our team lost the match by one goal.
The boys are kicking a ball in the park.
He swims twenty lengths before breakfast.
My computer crashed, and I lost all my work.
I forgot my password again.
The battery of my phone is empty.
Please switch off the lights when you leave.
The lift is broken, so we took the stairs.
There is a leak in the bathroom ceiling.
The teacher explained the exercise twice.
The students are nervous about the exam.
He was late for school because he overslept.
They got married last summer in a small village.
My neighbours moved to another country.
A thief stole her bicycle last night.
The police are looking for two men in a red car.
The president gave a speech about education.
The old bridge was destroyed by a flood.
Firefighters rescued a child from the burning house.
""".strip().splitlines()

# For each query, the sentence that it paraphrases.
QUERIES = {
    "It was freezing and the trip took hours.": "The weather was cold and the journey was long.",
    "She practises a musical instrument.": "She is learning to play the violin.",
    "The staff were rude to us.": "My soup was lukewarm and our server was impolite.",
    "Somebody took my bike.": "A thief stole her bicycle last night.",
    "The movie was dull.": "The film was so boring that we left early.",
    "The elevator does not work.": "The lift is broken, so we took the stairs.",
    "The laptop stopped working.": "My computer crashed, and I lost all my work.",
    "The infant is ill.": "The baby has a fever and keeps crying.",
    "A young dog has fun outdoors in winter.": "A puppy plays in the snow.",
    "The firm earned more money.": "The company said its profit rose last year.",
    "Workers will be laid off.": "The factory will close, and two hundred people will lose their jobs.",
    "Our plane did not take off due to bad weather.": "Our flight was cancelled because of the storm.",
    "We were beaten in the game.": "Our team lost the match by one goal.",
    "Water is dripping from above.": "There is a leak in the bathroom ceiling.",
    "Gas costs too much.": "Petrol has become so expensive that I take the bus.",
    "My head hurts.": "I have had a headache all day.",
    "The kids are playing football.": "The boys are kicking a ball in the park.",
    "The couple had their wedding in the countryside.": "They got married last summer in a small village.",
    "He should give up cigarettes.": "The doctor told him to stop smoking.",
    "The driving conditions were dangerous.": "The roads were icy, and several cars slid into the ditch.",
}
